package inventory

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/locksmithd/locksmith/internal/safetext"
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

// idOf returns the id that the last part of a key stands for, if it is one that a host writes.
func idOf(name string) (id string, ok bool) {
	id, err := url.QueryUnescape(name)
	return id, err == nil && lock.ValidateID(id) == nil && url.QueryEscape(id) == name
}

// Place implements [Records], for a store that is the only one.
func (i *Inventory) Place() string { return i.folder }

// Put replaces the record of a host. An error leaves open whether it was replaced, unless errors.Is(err,
// [lock.ErrRefused]).
func (i *Inventory) Put(ctx context.Context, h Host) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	h.clean()
	data, err := json.Marshal(h)
	if invalid := lock.ValidateID(h.ID); invalid != nil {
		err = fmt.Errorf("%w: %w", lock.ErrRefused, invalid)
	}
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

// Forget removes the record of a host, with the id that its Host has. The error matches ErrNoHost if there was none; any
// other, unless it matches [lock.ErrRefused], leaves open whether it was removed.
func (i *Inventory) Forget(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	reads := []lock.Read{{Key: i.key(id), KeysOnly: true}}
	if name, err := url.QueryUnescape(id); err == nil && url.QueryEscape(name) == id { // a key that no host writes: see Hosts
		if _, ok := idOf(name); !ok && name != "" {
			reads = append(reads, lock.Read{Key: i.folder + name, KeysOnly: true})
		}
	}
	snap, err := i.store.Get(ctx, reads...)
	switch {
	case err != nil:
		return fmt.Errorf("read the inventory: %w", err)
	case len(snap.Values) == 0:
		return ErrNoHost
	}
	var ops []lock.Op
	for key := range snap.Values {
		ops = append(ops, lock.Op{Key: key, Delete: true})
	}
	if _, _, err := i.store.Commit(ctx, nil, ops); err != nil {
		return fmt.Errorf("remove the record from the inventory: %w", err)
	}
	return nil
}

const (
	// page is how many records are read at once: with their usual size they fit into the largest buffers that gRPC uses
	// again, of 1 MiB. pageBytes is how much they may have: less than a hundred times what they do have. The store answers others in between.
	page      = 1000
	pageBytes = 16 << 20
	// maxHosts is many times the largest fleet. Each record may take some kilobytes of memory.
	maxHosts = 100_000
)

// Hosts returns the records of all hosts of the group, in no order, and a revision of the store:
// whatever was written after it may be missing. A key that no host writes is a record that is Broken, with what follows
// the folder in the key, escaped, as its id. More than 100,000 records are an error.
func (i *Inventory) Hosts(ctx context.Context) (hosts []*Host, revision int64, err error) {
	var parsing sync.WaitGroup
	defer parsing.Wait()
	var pages [][]*Host
	turns := make(chan struct{}, runtime.GOMAXPROCS(0)) // bounds how many pages are in memory
	records := 0
	read := lock.Read{Key: i.folder + "\x00", End: i.folder[:len(i.folder)-1] + "0", Limit: page, AtMost: pageBytes} // "0" comes right after "/"
	for {
		snap, err := i.read(ctx, read)
		switch {
		case errors.Is(err, lock.ErrTooLarge) && read.Limit > 1:
			read.Limit /= 2
			continue
		case err != nil:
			return nil, 0, fmt.Errorf("read the inventory: %w", err)
		}
		revision = cmp.Or(revision, snap.Revision)
		last := ""
		for key := range snap.Values {
			last = max(last, key)
		}
		parsed := make([]*Host, 0, len(snap.Values))
		pages, records = append(pages, parsed[:len(snap.Values)]), records+len(snap.Values)
		turns <- struct{}{}
		parsing.Go(func() {
			for key, value := range snap.Values {
				parsed = append(parsed, i.parse(key, value.Data))
			}
			<-turns
		})
		switch {
		case len(snap.Values) < read.Limit:
			parsing.Wait()
			return slices.Concat(pages...), revision, nil
		case records > maxHosts:
			return nil, 0, fmt.Errorf("read the inventory: there are more than %d records below %s", maxHosts, i.folder)
		}
		read.Key, read.Limit = last+"\x00", min(2*read.Limit, page)
	}
}

func (i *Inventory) read(ctx context.Context, r lock.Read) (lock.Snapshot, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return i.store.Get(ctx, r)
}

// parse returns the record that a key of the group has.
func (i *Inventory) parse(key string, data []byte) *Host {
	name := key[len(i.folder):]
	id, ok := idOf(name)
	if !ok {
		return &Host{ID: safetext.Clean(url.QueryEscape(name[:min(len(name), maxRecord)])), Group: i.group, Broken: true, State: Unreadable}
	}
	return parse(id, i.group, data)
}
