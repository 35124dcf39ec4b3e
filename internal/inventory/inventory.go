package inventory

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/locksmithd/locksmith/lock"
)

// callTimeout bounds every call.
const callTimeout = 10 * time.Second

// Inventory is the records of the hosts of one group. It is safe for concurrent use.
type Inventory struct {
	store  lock.Store
	group  string
	folder string // of the keys, with a slash at the end
}

// New returns the inventory of a group, "" for the default group. It does not use the store yet.
func New(store lock.Store, group string) (*Inventory, error) {
	if err := lock.ValidateGroup(group); err != nil {
		return nil, err
	}
	return &Inventory{store, group, lock.Folder(group) + "/fleet/"}, nil
}

func (i *Inventory) key(id string) string { return i.folder + url.QueryEscape(id) }

// Put replaces the record of a host. An error leaves open whether it was replaced, unless errors.Is(err,
// [lock.ErrRefused]).
func (i *Inventory) Put(ctx context.Context, h Host) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	h.clean()
	data, err := json.Marshal(h)
	if err == nil {
		_, _, err = i.store.Commit(ctx, nil, []lock.Op{{Key: i.key(h.ID), Value: data}})
	}
	if err != nil {
		return fmt.Errorf("write this host's record into the inventory: %w", err)
	}
	return nil
}

// ErrNoHost says that there is no record of a host.
var ErrNoHost = errors.New("the inventory has no such host")

// Forget removes the record of a host. The error matches ErrNoHost if there was none; any other, unless it matches
// [lock.ErrRefused], leaves open whether it was removed.
func (i *Inventory) Forget(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	key := i.key(id)
	snap, err := i.store.Get(ctx, lock.Read{Key: key})
	switch {
	case err != nil:
		return fmt.Errorf("read the inventory: %w", err)
	case len(snap.Values) == 0:
		return ErrNoHost
	}
	if _, _, err := i.store.Commit(ctx, nil, []lock.Op{{Key: key, Delete: true}}); err != nil {
		return fmt.Errorf("remove the record from the inventory: %w", err)
	}
	return nil
}

// page is how many records are read at once: the store answers others in between.
const page = 2000

// Hosts returns the records of all hosts of the group, in the order of their names and ids, and a revision of the
// store: whatever was written after it may be missing.
func (i *Inventory) Hosts(ctx context.Context) (hosts []Host, revision int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	next := lock.Read{Key: i.folder, End: i.folder[:len(i.folder)-1] + "0", Limit: page} // "0" comes right after "/"
	for {
		snap, err := i.store.Get(ctx, next)
		if err != nil {
			return nil, 0, fmt.Errorf("read the inventory: %w", err)
		}
		revision = cmp.Or(revision, snap.Revision)
		last := ""
		for key, value := range snap.Values {
			hosts = append(hosts, i.parse(key, value.Data))
			last = max(last, key)
		}
		if len(snap.Values) < page {
			slices.SortFunc(hosts, func(a, b Host) int { return cmp.Or(cmp.Compare(a.Hostname, b.Hostname), cmp.Compare(a.ID, b.ID)) })
			return hosts, revision, nil
		}
		next.Key = last + "\x00"
	}
}

// parse returns the record that a key of the group has.
func (i *Inventory) parse(key string, data []byte) Host {
	id := key[len(i.folder):]
	if unescaped, err := url.QueryUnescape(id); err == nil {
		id = unescaped
	}
	return parse(id, i.group, data)
}
