package storetest

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/lock"
)

func TestHooksSeeAndChangeEveryCall(t *testing.T) {
	ctx := t.Context()
	lost := errors.New("lost")
	for i, call := range []func(lock.Store) error{
		Get:    func(s lock.Store) error { _, err := s.Get(ctx, lock.Read{Key: "k"}); return err },
		Commit: func(s lock.Store) error { _, _, err := s.Commit(ctx, nil, []lock.Op{{Key: "k"}}); return err },
		Wait: func(s lock.Store) error {
			ctx, cancel := context.WithCancel(ctx)
			cancel()
			_, err := s.Wait(ctx, lock.Watch{Key: "k"})
			return err
		},
		Grant:     func(s lock.Store) error { _, err := s.Grant(ctx, time.Second); return err },
		KeepAlive: func(s lock.Store) error { return s.KeepAlive(ctx, 1) },
		Revoke:    func(s lock.Store) error { return s.Revoke(ctx, 1) },
	} {
		var seen []Method
		m := NewMemory()
		h := &Hooked{Store: m, After: func(c *Call) { seen = append(seen, c.Method) }}
		if got, want := call(h), call(NewMemory()); !errors.Is(got, want) {
			t.Errorf("method %d without changes returned %v, want %v", i, got, want)
		}
		h.After = func(c *Call) { c.Err = lost }
		if err := call(h); err != lost {
			t.Errorf("method %d whose result is changed returned %v", i, err)
		}
		calls, keys := m.Calls(), m.Backup()
		h.Before = func(c *Call) error { seen = append(seen, c.Method); return lost }
		if err := call(h); err != lost || m.Calls() != calls || m.Backup().revision != keys.revision {
			t.Errorf("method %d that fails before it is made returned %v", i, err)
		}
		if want := []Method{Method(i), Method(i)}; !slices.Equal(seen, want) {
			t.Errorf("method %d is seen as %v", i, seen)
		}
	}
}

func TestHookThatRunsOnceMayUseTheStore(t *testing.T) {
	runs := 0
	var h *Hooked
	put := func() {
		runs++
		if _, _, err := h.Commit(t.Context(), nil, []lock.Op{{Key: "k"}}); err != nil {
			t.Error(err)
		}
	}
	h = Before(NewMemory(), Writes("k"), put)
	for _, key := range []string{"other", "k", "k"} {
		if _, _, err := h.Commit(t.Context(), nil, []lock.Op{{Key: key}}); err != nil {
			t.Error(err)
		}
	}
	if runs != 1 {
		t.Errorf("it ran %d times", runs)
	}
}
