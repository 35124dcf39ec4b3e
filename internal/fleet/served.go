package fleet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/locksmithd/locksmith/lock"
)

// Source is a group to read.
type Source struct {
	Group string // "" is the default group
	Max   int    // the number of slots that is shown as long as the group has no lock
}

// ReadGroups reads some groups, as Read does, in the order given. revision is one of the store: whatever was written
// after it may be missing.
func ReadGroups(ctx context.Context, store lock.Store, sources []Source, now time.Time) (f Fleet, revision int64, err error) {
	first := &firstRevision{Store: store}
	var groups []lock.GroupOverview
	for _, s := range sources {
		l, err := lock.New(first, s.Group, s.Max)
		if err != nil {
			return Fleet{}, 0, err
		}
		o, err := l.Overview(ctx)
		if _, document := errors.AsType[*lock.DocumentError](err); err != nil && !document {
			return Fleet{}, 0, fmt.Errorf("group %q: %w", s.Group, err)
		}
		groups = append(groups, lock.GroupOverview{Group: s.Group, Overview: o, Err: err})
	}
	f, err = read(ctx, first, groups, now)
	return f, first.revision, err
}

// firstRevision is a store that notes the revision of its first Get. It is for one caller at a time.
type firstRevision struct {
	lock.Store
	revision int64
}

// Get implements lock.Store.
func (s *firstRevision) Get(ctx context.Context, reads ...lock.Read) (lock.Snapshot, error) {
	snap, err := s.Store.Get(ctx, reads...)
	if s.revision == 0 {
		s.revision = snap.Revision
	}
	return snap, err
}
