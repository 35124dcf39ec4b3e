package lock_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/storetest"
)

func TestGroupsAreListed(t *testing.T) {
	ctx := t.Context()
	s := storetest.NewMemory()
	groups := func() []string {
		t.Helper()
		g, err := lock.NewGroups(s, 1).Names(ctx)
		must.Do(t, err)
		return g
	}
	if g := groups(); len(g) != 0 {
		t.Errorf("there are %q", g)
	}
	mustPause(t)(lock.NewGroups(s, 1).Pause(ctx, lock.PauseInfo{}, 0))
	if g := groups(); len(g) != 0 {
		t.Errorf("there are %q", g)
	}
	_, err := lock.NewGroups(s, 1).Resume(ctx)
	must.Do(t, err)
	for _, group := range []string{"lb", "prod/database", "prod", "prod0", "größe", "a b"} {
		for i := range 50 {
			if _, _, err := newLock(t, s, group).SetMax(ctx, 50); err != nil {
				t.Fatal(err)
			}
			lockFor(ctx, t, newLock(t, s, group), fmt.Sprint("host", i))
		}
	}
	mustPause(t)(newLock(t, s, "paused").Pause(ctx, lock.PauseInfo{}, 0))
	for _, key := range []string{"", "/", "a", "../x", "%zz/semaphore", "./semaphore", "%0a/semaphore", "%6cb/semaphore"} {
		put(t, s, prefix+"groups/"+key, "x")
	}
	before := s.Calls()
	want := []string{"a b", "größe", "lb", "paused", "prod", "prod/database", "prod0"}
	got := groups()
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("there are %q, want %q", got, want)
	}
	if n := s.Calls() - before; n > 20 {
		t.Errorf("it took %d calls", n)
	}
	_, err = newLock(t, s, "").Status(ctx)
	must.Do(t, err)
	if g := groups(); g[0] != "" {
		t.Errorf("there are %q", g)
	}
}

func TestGroupThatCannotBeUnderstoodHidesNoOther(t *testing.T) {
	s := storetest.NewMemory()
	for _, group := range []string{"a", "c"} {
		lockFor(t.Context(), t, newLock(t, s, group), "host-"+group)
	}
	put(t, s, prefix+"groups/b/semaphore", "{")
	groups, err := lock.NewGroups(s, 1).Overviews(t.Context())
	must.Do(t, err)
	var found []string
	for _, g := range groups {
		var document *lock.DocumentError
		found = append(found, fmt.Sprint(g.Group, g.Semaphore.Holders, errors.As(g.Err, &document)))
	}
	if want := []string{"a[host-a] false", "b[] true", "c[host-c] false"}; !slices.Equal(found, want) {
		t.Errorf("found %q, want %q", found, want)
	}
	broken := &storetest.Hooked{Store: s, Before: func(c *storetest.Call) error {
		if c.Reads[0].Key == prefix+"groups/c/semaphore" {
			return storetest.ErrFault
		}
		return nil
	}}
	if groups, err = lock.NewGroups(broken, 1).Overviews(t.Context()); !errors.Is(err, storetest.ErrFault) || len(groups) != 2 {
		t.Errorf("where c cannot be read: %d groups, %v", len(groups), err)
	}
}
