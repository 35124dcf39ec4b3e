package grant_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmithd/locksmith/fleetlock"
	"github.com/locksmithd/locksmith/internal/grant"
	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/storetest"
)

// server is a server that serves the default group, and what it logs.
type server struct {
	*grant.Server
	options grant.Options

	mu     sync.Mutex
	log    bytes.Buffer
	groups map[string]grant.Group // a new map for each change, since requests may still read the one before
}

func (s *server) Write(line []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.Write(line)
}

// logged returns what was logged since the last call.
func (s *server) logged() (lines []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for line := range strings.Lines(s.log.String()) {
		lines = append(lines, strings.TrimSuffix(line, "\n"))
	}
	s.log.Reset()
	return lines
}

// served returns the groups that are served.
func (s *server) served() map[string]grant.Group {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.groups
}

// serve serves a group with these settings from now on.
func (s *server) serve(name string, g grant.Group) {
	groups := maps.Clone(s.served())
	groups[name] = g
	s.serveOnly(groups)
}

// serveOnly serves these groups from now on, and no others.
func (s *server) serveOnly(groups map[string]grant.Group) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.groups = groups
}

func newServer(store lock.Store) *server {
	s := &server{groups: map[string]grant.Group{"default": {Max: 1}}}
	log := slog.New(slog.NewTextHandler(s, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	s.options = grant.Options{Store: store, Groups: s.served, Hold: 50 * time.Second, Waits: 100, Log: log}
	s.Server = grant.New(s.options)
	return s
}

// change makes another server of it.
func (s *server) change(set func(*grant.Options)) {
	set(&s.options)
	s.Server = grant.New(s.options)
}

var caller = fleetlock.Caller{Address: "192.0.2.7:4711"}

// params are those of a client in the default group.
func params(id string) fleetlock.Params { return fleetlock.Params{ID: id, Group: "default"} }

// take is a request for a slot, which ends when it is held open for long enough.
func (s *server) take(t *testing.T, id string) error {
	return s.PreReboot(t.Context(), caller, params(id))
}

// begin is take, and returns when that is blocked.
func (s *server) begin(t *testing.T, id string) <-chan error {
	done := make(chan error, 1)
	go func() { done <- s.take(t, id) }()
	synctest.Wait()
	return done
}

func (s *server) steady(t *testing.T, id string) {
	t.Helper()
	must.Do(t, s.SteadyState(t.Context(), caller, params(id)))
	synctest.Wait()
}

// wantKind checks that a request was refused.
func wantKind(t *testing.T, err error, kind string, parts ...string) {
	t.Helper()
	e, ok := errors.AsType[*fleetlock.Error](err)
	if !ok || e.Kind != kind {
		t.Errorf("the request ends with %v, want %s", err, kind)
		return
	}
	for _, part := range parts {
		if !strings.Contains(e.Value, part) {
			t.Errorf("it says %q, which does not have %q", e.Value, part)
		}
	}
}

// host is a host that asks for itself.
type host struct {
	id   string
	lock *lock.Lock
	done chan error
}

// enter makes a host wait in the queue.
func enter(t *testing.T, store lock.Store, id string) *host {
	h := &host{id, newLock(t, store), make(chan error, 1)}
	go func() {
		h.done <- h.lock.Acquire(t.Context(), id, lock.Record{Hostname: id, BootID: "boot of " + id, Since: time.Now()}, nil)
	}()
	synctest.Wait()
	return h
}

// got reports whether the host has its slot.
func (h *host) got() bool {
	synctest.Wait()
	return len(h.done) == 1
}

func (h *host) release(t *testing.T) {
	t.Helper()
	must.Do(t, h.lock.Release(t.Context(), h.id))
	synctest.Wait()
}

func newLock(t testing.TB, store lock.Store) *lock.Lock {
	t.Helper()
	l, err := lock.New(store, "", 1)
	must.Do(t, err)
	return l
}

// wantLock checks who holds the slots of the default group, and who waits.
func wantLock(t *testing.T, store lock.Store, holders, queue []string) {
	t.Helper()
	o, err := newLock(t, store).Overview(context.WithoutCancel(t.Context()))
	must.Do(t, err)
	var h, q []string
	for _, holder := range o.Holders {
		h = append(h, holder.ID)
	}
	for _, entry := range o.Queue {
		q = append(q, entry.ID)
	}
	if !slices.Equal(h, holders) || !slices.Equal(q, queue) {
		t.Errorf("held by %q, want %q; waiting are %q, want %q", h, holders, q, queue)
	}
}

// bubble runs a test with a store in memory.
func bubble(t *testing.T, test func(*testing.T, *storetest.Memory)) {
	synctest.Test(t, func(t *testing.T) { test(t, storetest.NewMemory()) })
}
