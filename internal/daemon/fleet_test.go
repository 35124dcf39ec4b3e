package daemon_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmithd/locksmith/internal/daemon"
	hosts "github.com/locksmithd/locksmith/internal/host"
	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/internal/slot"
	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/storetest"
)

// quiet is a host on which nobody is at work, and which reboots when it is asked to.
type quiet struct{ rebooting chan struct{} }

func (q quiet) Reboot(_ context.Context, mode policy.Mode, _ bool) (policy.Mode, error) {
	close(q.rebooting)
	return mode, nil
}

func (quiet) Local(context.Context) (policy.Local, error)        { return policy.Local{}, nil }
func (quiet) Modes() policy.Modes                                { return policy.Modes{} }
func (quiet) GoingDown(context.Context) (bool, error)            { return false, nil }
func (quiet) Scheduled(context.Context) (policy.Shutdown, error) { return policy.Shutdown{}, nil }
func (quiet) Instance(context.Context) (string, error)           { return "", nil }
func (quiet) Schedule(context.Context, time.Time, string) error  { return nil }
func (quiet) Cancel(context.Context) error                       { return nil }
func (quiet) Restarting(context.Context) (bool, error)           { return false, nil }
func (quiet) AskSources(context.Context) []policy.Update         { return nil }
func (quiet) Keep(policy.Kept) error                             { return nil }
func (quiet) Gate(context.Context, policy.Need) *policy.Obstacle { return nil }
func (quiet) Hooked(context.Context) (bool, error)               { return false, nil }
func (quiet) Before(context.Context, policy.Facts) error         { return nil }
func (quiet) Undo(context.Context, policy.Facts) error           { return nil }
func (quiet) After(context.Context, policy.Facts) error          { return nil }
func (quiet) Begin(context.Context, policy.Reboot) error         { return nil }
func (quiet) Ended(context.Context, error) error                 { return nil }

// parts are those of a daemon on the host, with what update_engine says.
func (q quiet) parts(updates <-chan policy.Event) daemon.Parts {
	return daemon.Parts{
		Updates: updates, AskSources: q.AskSources, Host: q, Found: policy.Found{Kept: &policy.Kept{}}, Keep: q.Keep,
		Gate: q.Gate, Hooks: q, Begin: q.Begin, Ended: q.Ended,
		Restarting: q.Restarting, Log: slog.New(slog.DiscardHandler),
	}
}

// idle closes its channel when the daemon has nothing to do.
type idle struct{ reached chan struct{} }

func (o idle) Observe(s policy.Snapshot, _ string, _ []policy.Move) {
	if s.State == policy.Idle {
		close(o.reached)
	}
}

// node is a host of a fleet.
type node struct {
	t     *testing.T
	root  string
	store slot.Store
}

func newNode(t *testing.T, n int, store slot.Store) node {
	host := node{t, t.TempDir(), store}
	host.write("etc/machine-id", fmt.Sprintf("%032d", n))
	host.write("proc/sys/kernel/hostname", fmt.Sprint("host", n))
	return host
}

func (n node) write(path, content string) {
	path = filepath.Join(n.root, path)
	must.Do(n.t, os.MkdirAll(filepath.Dir(path), 0o755))
	must.Do(n.t, os.WriteFile(path, []byte(content), 0o600))
}

// boot runs a daemon until what it waits for has come.
func (n node) boot(id string, needed bool) {
	held, err := slot.New(n.store, "", n.root, hosts.Boot{ID: id}, slog.New(slog.DiscardHandler))
	must.Do(n.t, err)
	host, updates, reached := quiet{make(chan struct{})}, make(chan policy.Event), idle{make(chan struct{})}
	parts := host.parts(updates)
	until := host.rebooting
	if !needed {
		parts.Observers, until = []daemon.Observer{reached}, reached.reached
	}
	ctx, stop := context.WithCancel(n.t.Context())
	ended := make(chan error)
	go func() {
		ended <- daemon.Run(ctx, daemon.Settings{Policy: policy.Config{Lock: true}, Lock: held}, parts)
	}()
	if needed {
		updates <- policy.Update{Source: policy.Engine, Pending: true}
	}
	<-until
	stop()
	must.Do(n.t, <-ended)
}

// Hosts that are told of an update at once go down one after another, each as
// soon as the one before is up again.
func TestFleetRebootsOneAtATime(t *testing.T) {
	const hosts, downtime = 5, 90 * time.Second
	synctest.Test(t, func(t *testing.T) {
		store := storetest.NewMemory()
		var mu sync.Mutex
		down, most := 0, 0
		goes := func(by int) {
			mu.Lock()
			defer mu.Unlock()
			down += by
			most = max(most, down)
		}
		begin := time.Now()
		var fleet sync.WaitGroup
		for n := range hosts {
			host := newNode(t, n, store)
			fleet.Go(func() {
				host.boot("first", true)
				goes(1)
				time.Sleep(downtime)
				goes(-1)
				host.boot("second", false) // it comes up with the slot, gives it back, and is done
			})
		}
		fleet.Wait()
		if most != 1 {
			t.Errorf("%d hosts were down at once", most)
		}
		if took := time.Since(begin); took > hosts*(downtime+5*time.Second) {
			t.Errorf("%d hosts took %v", hosts, took)
		}
		l, err := lock.New(store, "", 1)
		must.Do(t, err)
		if s, err := l.Status(t.Context()); err != nil || len(s.Holders) != 0 {
			t.Errorf("at the end: %+v, %v", s, err)
		}
	})
}
