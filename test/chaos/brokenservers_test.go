package chaos

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/fleetlock"
	"github.com/locksmithd/locksmith/internal/grant"
	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/realpart"
	"github.com/locksmithd/locksmith/test/storetest"
)

// Each of these FleetLock servers has a bug that the real one does not have. The harness has to find each of them.
func TestBrokenServerIsFound(t *testing.T) {
	t.Parallel()
	history := func(r *Report) []string { return r.History }
	revisions := func(r *Report) []string { return r.Revisions }
	for _, test := range []struct {
		name  string
		serve func(grant.Options) grants
		by    func(*Report) []string
	}{
		{"granting a slot that is held", grantsFull, history},
		{"granting before the commit", grantsEarly, history},
		{"freeing the slot of another client", freesOthers, history},
		{"freeing a slot without the right to", freesAny, history},
		{"withdrawing without the place in the queue", leavesPlace, revisions},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			for range 5 { // another consequence of the bug may be found first
				c := config(t)
				c.Groups, c.Hosts, c.Old, c.Remote = 3, 2, 0, 5
				c.Patience, c.Ops, c.WindowOps, c.Duration = 10*time.Second, 20_000, 300, time.Minute
				c.Serve = test.serve
				report, err := Run(t.Context(), c)
				realpart.Must(t, err)
				t.Log(report)
				if len(test.by(report)) > 0 {
					return
				}
			}
			t.Error("the harness has not found the bug in the expected way")
		})
	}
}

// broken is a server of which a part is replaced.
type broken struct {
	*grant.Server
	preReboot, steadyState answering
}

func (b *broken) PreReboot(ctx context.Context, c fleetlock.Caller, p fleetlock.Params) error {
	return b.preReboot(ctx, c, p)
}

func (b *broken) SteadyState(ctx context.Context, c fleetlock.Caller, p fleetlock.Params) error {
	return b.steadyState(ctx, c, p)
}

func newBroken(o grant.Options) *broken {
	s := grant.New(o)
	return &broken{s, s.PreReboot, s.SteadyState}
}

// grantsFull grants what it should refuse.
func grantsFull(o grant.Options) grants {
	b := newBroken(o)
	b.preReboot = func(ctx context.Context, c fleetlock.Caller, p fleetlock.Params) error {
		err := b.Server.PreReboot(ctx, c, p)
		if e, ok := errors.AsType[*fleetlock.Error](err); ok && e.Kind == fleetlock.KindLockHeld {
			return nil
		}
		return err
	}
	return b
}

// grantsEarly answers while the slot is still being taken.
func grantsEarly(o grant.Options) grants {
	b := newBroken(o)
	b.preReboot = func(ctx context.Context, c fleetlock.Caller, p fleetlock.Params) error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.Hold)
		go func() {
			defer cancel()
			_ = b.Server.PreReboot(ctx, c, p)
		}()
		return nil
	}
	return b
}

// freesOthers frees the slot of the first holder that a server has given one.
func freesOthers(o grant.Options) grants {
	return frees(o, func(r lock.Record) bool { return r.Remote })
}

// freesAny takes a host that asks for itself for a client.
func freesAny(o grant.Options) grants {
	return frees(o, func(r lock.Record) bool { return !r.Remote })
}

func frees(o grant.Options, which func(lock.Record) bool) grants {
	b := newBroken(o)
	b.steadyState = func(ctx context.Context, c fleetlock.Caller, p fleetlock.Params) error {
		l, err := lock.New(o.Store, o.Groups()[p.Group].Lock, 1)
		if err != nil {
			return err
		}
		if found, err := l.Overview(ctx); err == nil {
			other := func(h lock.HolderInfo) bool { return h.ID != p.ID && which(h.Record) }
			if i := slices.IndexFunc(found.Holders, other); i >= 0 {
				_ = l.Release(ctx, found.Holders[i].ID)
			}
		}
		return b.Server.SteadyState(ctx, c, p)
	}
	return b
}

// leavesPlace does not delete places, except by taking a slot.
func leavesPlace(o grant.Options) grants {
	o.Store = before(o.Store, storetest.Commit, func(c *storetest.Call) error {
		takes := func(op lock.Op) bool { return strings.Contains(op.Key, "/holders/") && !op.Delete }
		if !slices.ContainsFunc(c.Ops, takes) {
			c.Ops = slices.DeleteFunc(slices.Clone(c.Ops), func(op lock.Op) bool {
				return op.Delete && (strings.Contains(op.Key, "/queue/") || strings.Contains(op.Key, "/order/"))
			})
		}
		return nil
	})
	return grant.New(o)
}
