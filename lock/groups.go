package lock

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// Groups are all groups that have a lock in a store. Its Pauser pauses them, also those that do not exist yet.
type Groups struct {
	Pauser
	max int
}

// NewGroups returns the groups in a store. max is shown for a group that has no document, as for [New].
func NewGroups(store Store, max int) Groups {
	return Groups{Pauser{store: store, key: pauseAllKey}, max}
}

// GroupOverview is the Overview of a group.
type GroupOverview struct {
	Group string // "" for the default group
	Overview
	// Err, a [*DocumentError], says why there is no Overview of this group; nil if there is one.
	Err error
}

// Overviews returns the overviews of all groups, one read after the other. With an error it returns those
// that were read before.
func (g Groups) Overviews(ctx context.Context) ([]GroupOverview, error) {
	names, err := g.Names(ctx)
	if err != nil {
		return nil, err
	}
	var all []GroupOverview
	for _, name := range names {
		l, err := New(g.store, name, g.max)
		if err != nil {
			return all, err
		}
		o, err := l.Overview(ctx)
		var document *DocumentError
		if err != nil && !errors.As(err, &document) {
			return all, err
		}
		all = append(all, GroupOverview{name, o, err})
	}
	return all, nil
}

// Names returns the groups that have keys in the store, in order; "" is the default group.
func (g Groups) Names(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var names []string
	snap, err := g.store.Get(ctx, Read{Key: Root + "/semaphore"}, Read{Key: Root + "/pause"}, first(below(Root+"/queue/")), first(below(Root+"/fleet/")))
	if err != nil {
		return nil, fmt.Errorf("list groups: %w", err)
	}
	if len(snap.Values) > 0 {
		names = append(names, "")
	}
	// One key of each group is read, and then the first one after all keys of that group.
	const all = Root + "/groups/"
	for next := first(below(all)); ; {
		snap, err := g.store.Get(ctx, next)
		if err != nil {
			return nil, fmt.Errorf("list groups: %w", err)
		}
		found := keysIn(snap, next)
		if len(found) == 0 {
			return names, nil
		}
		escaped, _, deeper := strings.Cut(found[0][len(all):], "/")
		group, err := url.QueryUnescape(escaped)
		if deeper && err == nil && group != "" && Folder(group) == all+escaped && ValidateGroup(group) == nil {
			names = append(names, group)
		}
		next.Key = all + escaped + "0"
		if !deeper {
			next.Key = found[0] + "\x00"
		}
	}
}
