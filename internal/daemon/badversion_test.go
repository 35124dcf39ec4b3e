package daemon_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/must"
)

// A version that never becomes well stops by itself.
func TestBadVersionStopsByItself(t *testing.T) {
	const hosts, slots = 100, 5
	for name, c := range map[string]struct {
		failure     policy.HealthFailure
		spread, fix time.Duration // within which all hosts learn of the bad version, and of the fix
		least, most int           // hosts that get the bad version
		takes       int           // slots taken in the end
	}{
		// Hosts learn of it so slowly that slots are free when the first one turns out to be sick.
		"pause": {policy.PauseVersion, 3 * time.Hour, time.Hour, 1, slots, hosts},
		// All hosts know of the fix before the first slot is free.
		"hold":    {policy.HoldSlot, 30 * time.Minute, time.Minute, slots, slots, hosts},
		"release": {policy.ReleaseSlot, 30 * time.Minute, 30 * time.Minute, hosts, hosts, 2 * hosts},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRollout(t, hosts, slots, c.failure)
				r.announce(badVersion, c.spread)
				if c.failure == policy.ReleaseSlot {
					r.await(12*time.Hour, "all hosts to have the bad version, and no slot", func() bool {
						return len(r.booted(badVersion)) == hosts && len(r.overview().Holders) == 0
					})
				} else {
					time.Sleep(c.spread + 30*time.Minute)
				}
				sick := r.booted(badVersion)
				t.Logf("%d hosts have booted the bad version", len(sick))
				if n := len(sick); n < c.least || n > c.most {
					t.Errorf("%d hosts have booted the bad version, want %d to %d:\n%s", n, c.least, c.most, r)
				}
				if c.failure != policy.ReleaseSlot {
					r.expectHeld(sick, c.failure == policy.PauseVersion)
				}

				r.announce(fixVersion, c.fix)
				r.await(12*time.Hour, "all hosts to have the fix", func() bool { return r.finished(fixVersion) })
				if now := r.booted(badVersion); len(now) != len(sick) {
					t.Errorf("%d hosts have booted the bad version after the fix was there", len(now)-len(sick))
				}
				if n := r.takes(); n != c.takes { // a sick host takes the fix on the slot that it has
					t.Errorf("%d slots were taken, want %d", n, c.takes)
				}
				r.expectFree(sick, c.failure == policy.PauseVersion)
			})
		})
	}
}

// expectHeld checks that the sick hosts hold their slots, and that everybody says why the others wait.
func (r *rollout) expectHeld(sick []*updating, paused bool) {
	r.t.Helper()
	o := r.overview()
	names := map[string]bool{}
	for _, h := range sick {
		names[h.name] = true
	}
	for _, h := range o.Holders {
		if !names[h.Record.Hostname] || h.Record.Phase != lock.Unwell || h.Record.PhaseWhy != errSick.Error() || h.Record.Version != badVersion {
			r.t.Errorf("a slot is held by %+v", h.Record)
		}
	}
	if len(o.Holders) != len(sick) {
		r.t.Errorf("%d sick hosts hold %d slots", len(sick), len(o.Holders))
	}
	pauses := o.VersionPauses()
	if !paused {
		if len(pauses) != 0 || o.Pause != nil {
			r.t.Errorf("paused: %v, %v", pauses, o.Pause)
		}
		return
	}
	if len(pauses) != 1 || pauses[0].Version != badVersion || pauses[0].Why != errSick.Error() || pauses[0].Others != len(sick)-1 ||
		!slices.ContainsFunc(slices.Collect(maps.Keys(names)), func(name string) bool { return strings.HasPrefix(pauses[0].Host, name+" (") }) {
		r.t.Errorf("the pauses are %v", pauses)
		return
	}
	for _, h := range r.hosts {
		s, line, _ := h.shown()
		if names[h.name] {
			if s.Health == nil || !s.Health.Unwell || !s.Health.Pauses || !strings.Contains(line, errSick.Error()) {
				r.t.Errorf("%s is sick, and says %q", h.name, line)
			}
			continue
		}
		for _, want := range []string{"paused for version " + badVersion, pauses[0].Host, errSick.Error()} {
			if s.State != policy.Locking || !strings.Contains(line, want) {
				r.t.Errorf("%s waits, and says %q, without %q", h.name, line, want)
			}
		}
	}
}

// expectFree checks that nothing is left in etcd, but that the bad version stays paused until somebody resumes it.
func (r *rollout) expectFree(sick []*updating, paused bool) {
	r.t.Helper()
	o := r.overview()
	if len(o.Holders) != 0 || len(o.Queue) != 0 || o.Pause != nil {
		r.t.Errorf("in the end there are holders %v, queue %v, pause %v", o.Holders, o.Queue, o.Pause)
	}
	left := 0
	for _, u := range o.Unwell {
		if left++; !u.Left || u.Pauses(fixVersion) || u.Pauses("") || !u.Pauses(badVersion) {
			r.t.Errorf("in the end there is %+v", u)
		}
	}
	if paused && left != len(sick) || !paused && left != 0 {
		r.t.Errorf("%d hosts were sick, and %d have left their version", len(sick), left)
	}
	_, err := r.lock.Resume(r.t.Context())
	must.Do(r.t, err)
	if o := r.overview(); len(o.Unwell) != 0 {
		r.t.Errorf("resumed, and there is %+v", o.Unwell)
	}
	time.Sleep(lockLease)
	if n := r.memory.Leases(); n != 0 {
		r.t.Errorf("%d leases are left", n)
	}
}

// lockLease is longer than any lease that the lock uses.
const lockLease = 2 * time.Minute
