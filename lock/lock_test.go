package lock_test

import (
	"errors"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/storetest"
)

func TestKeyOfAGroupIsQueryEscaped(t *testing.T) {
	const root = "coreos.com/updateengine/rebootlock/"
	for group, prefix := range map[string]string{
		"":              root,
		"lb":            root + "groups/lb/",
		"prod/database": root + "groups/prod%2Fdatabase/",
		"a b+c":         root + "groups/a+b%2Bc/",
		"...":           root + "groups/.../",
		"../x":          root + "groups/..%2Fx/",
		"größe":         root + "groups/gr%C3%B6%C3%9Fe/",
	} {
		s := storetest.NewMemory()
		l := newLock(t, s, group)
		if _, err := l.TryAcquire(t.Context(), "../a/b", lock.Record{}); err != nil {
			t.Fatal(err)
		}
		if v := read(t, s, prefix+"semaphore"); v.ModRevision == 0 {
			t.Errorf("group %q has no key %ssemaphore", group, prefix)
		}
		if v := read(t, s, prefix+"holders/..%2Fa%2Fb"); v.ModRevision == 0 {
			t.Errorf("group %q has no record of its holder", group)
		}
	}
}

func TestGroupThatEscapesItsKeyIsRefused(t *testing.T) {
	for _, group := range []string{".", "..", "a\nb", "\x00", "\xff"} {
		if _, err := lock.New(storetest.NewMemory(), group, 1); err == nil || !strings.Contains(err.Error(), strconv.Quote(group)) {
			t.Errorf("group %q got %v", group, err)
		}
	}
}

func TestDocumentThatCannotBeReadIsNeverOverwritten(t *testing.T) {
	ctx := t.Context()
	for _, document := range []string{
		"", "hello", "{}", `{"semaphore":1,"max":1`, `{"semaphore":1,"max":1,"holders":["a"]}`,
		`{"semaphore":0,"max":2,"holders":["a","a"]}`, `{"semaphore":-1,"max":-1,"holders":null}`, "\xff\xfe",
		strings.Repeat("x", 1<<20),
	} {
		s := storetest.NewMemory()
		put(t, s, defaultKey, document)
		before := read(t, s, defaultKey)
		l := newLock(t, s, "")
		_, statusErr := l.Status(ctx)
		_, _, maxErr := l.SetMax(ctx, 2)
		_, tryErr := l.TryAcquire(ctx, "a", lock.Record{})
		acquireErr := l.Acquire(ctx, "a", lock.Record{}, nil)
		releaseErr := l.Release(ctx, "a")
		_, _, holderErr := l.Holder(ctx, "a")
		for i, err := range []error{statusErr, maxErr, tryErr, acquireErr, releaseErr, holderErr} {
			var d *lock.DocumentError
			if !errors.As(err, &d) || d.Key != defaultKey || !strings.Contains(err.Error(), defaultKey) || !strings.Contains(err.Error(), "etcdctl") {
				t.Errorf("%.30q: call %d returned %v", document, i, err)
			} else if strings.Contains(err.Error(), "\n") || len(err.Error()) > 500 {
				t.Errorf("%.30q: call %d returned more than a sentence: %v", document, i, err)
			}
		}
		if after := read(t, s, defaultKey); !reflect.DeepEqual(before, after) {
			t.Errorf("%.30q became %.30q", document, after.Data)
		}
	}
}

func TestFailingCallsChangeNothing(t *testing.T) {
	ctx := t.Context()
	s := storetest.NewMemory()
	l := newLock(t, s, "")
	for name, call := range map[string]func() error{
		"set-max -3":      func() error { _, _, err := l.SetMax(ctx, -3); return err },
		"lock of nobody":  func() error { _, err := l.TryAcquire(ctx, "", lock.Record{}); return err },
		"wait for nobody": func() error { return l.Acquire(ctx, "", lock.Record{}, nil) },
		"record of no time": func() error {
			return l.Acquire(ctx, "a", lock.Record{Since: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)}, nil)
		},
		"unlock of a stranger": func() error { return l.Release(ctx, "a") },
	} {
		if err := call(); err == nil {
			t.Errorf("%s succeeds", name)
		}
		if v := read(t, s, defaultKey); v.ModRevision != 0 {
			t.Errorf("%s has written %s", name, v.Data)
		}
	}
}

func TestSetMaxReturnsOldAndNew(t *testing.T) {
	s := storetest.NewMemory()
	l := newLock(t, s, "")
	for _, test := range []struct{ before, max int }{{1, 4}, {4, 4}, {4, 0}, {0, 2}} {
		before, after, err := l.SetMax(t.Context(), test.max)
		if err != nil || before.Max != test.before || after.Max != test.max || after.Free != test.max {
			t.Errorf("set-max %d returned %+v, %+v, %v", test.max, before, after, err)
		}
	}
}

func TestSetMaxBelowTheHoldersSaysSo(t *testing.T) {
	s := storetest.NewMemory()
	put(t, s, defaultKey, `{"semaphore":1,"max":3,"holders":["a","b"]}`)
	_, after, err := newLock(t, s, "").SetMax(t.Context(), 1)
	if err != nil || after.Free != -1 || len(after.Holders) != 2 {
		t.Errorf("it is %+v, %v", after, err)
	}
}

func TestReleaseOfARecordReleasesWhatWasShown(t *testing.T) {
	ctx := t.Context()
	for _, record := range []bool{true, false} {
		s := storetest.NewMemory()
		l := newLock(t, s, "")
		lockFor(ctx, t, l, "a")
		if !record {
			_, _, err := s.Commit(ctx, nil, []lock.Op{{Key: prefix + "holders/a", Delete: true}})
			must.Do(t, err)
		}
		o, err := l.Overview(ctx)
		must.Do(t, err)
		shown := o.Holders[0]
		must.Do(t, l.Release(ctx, "a"))
		var notHeld *lock.NotHeldError
		if err := l.ReleaseRecord(ctx, shown); !errors.As(err, &notHeld) {
			t.Errorf("what is not held: %v", err)
		}
		lockFor(ctx, t, l, "a")
		var changed *lock.ChangedError
		if err := l.ReleaseRecord(ctx, shown); !errors.As(err, &changed) || changed.ID != "a" {
			t.Errorf("what was taken again: %v", err)
		}
		if h := holdersIn(t, s); !slices.Equal(h, []string{"a"}) {
			t.Errorf("held by %v", h)
		}
		o, err = l.Overview(ctx)
		must.Do(t, err)
		must.Do(t, l.ReleaseRecord(ctx, o.Holders[0]))
		if h := holdersIn(t, s); len(h) != 0 {
			t.Errorf("held by %v", h)
		}
	}
}

func TestReleaseLeavesARecordAloneThatChangedRightBefore(t *testing.T) {
	ctx := t.Context()
	for name, release := range map[string]func(*lock.Lock, lock.HolderInfo) error{
		"what was shown": func(l *lock.Lock, h lock.HolderInfo) error { return l.ReleaseRecord(ctx, h) },
		"what this host has": func(l *lock.Lock, _ lock.HolderInfo) error {
			l.Identify(lock.Record{Hostname: "a", BootID: "1"}, nil)
			return l.Release(ctx, "a")
		},
	} {
		s := storetest.NewMemory()
		l := newLock(t, storetest.Before(s, isCommit, func() { put(t, s, prefix+"holders/a", `{"hostname":"clone","boot_id":"2"}`) }), "")
		if _, err := newLock(t, s, "").TryAcquire(ctx, "a", lock.Record{Hostname: "a", BootID: "1"}); err != nil {
			t.Fatal(err)
		}
		o, err := l.Overview(ctx)
		must.Do(t, err)
		if err := release(l, o.Holders[0]); err == nil {
			t.Errorf("%s: no error", name)
		}
		if h := holdersIn(t, s); !slices.Equal(h, []string{"a"}) {
			t.Errorf("%s: held by %v", name, h)
		}
	}
}

func TestDeclaredSlotsCountOnlyForANewDocument(t *testing.T) {
	ctx := t.Context()
	s := storetest.NewMemory()
	three, err := lock.New(s, "", 3)
	must.Do(t, err)
	five, err := lock.New(s, "", 5)
	must.Do(t, err)
	for _, l := range []*lock.Lock{three, five} {
		if sem, err := l.Status(ctx); err != nil || sem.Max != 3 || sem.Free != 3 {
			t.Errorf("it is %+v, %v", sem, err)
		}
	}
	if _, err := lock.New(s, "", -1); err == nil {
		t.Error("less than none is possible")
	}
}
