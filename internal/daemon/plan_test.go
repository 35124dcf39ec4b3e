package daemon_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmithd/locksmith/internal/config"
	"github.com/locksmithd/locksmith/internal/daemon"
	"github.com/locksmithd/locksmith/internal/fleet"
	"github.com/locksmithd/locksmith/internal/history"
	"github.com/locksmithd/locksmith/internal/inventory"
	"github.com/locksmithd/locksmith/internal/plan"
	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/race"
	"github.com/locksmithd/locksmith/test/randtest"
)

// A season is a rollout to foresee. The windows of its hosts are such that the last ones reboot in the middle of an
// opening: at its end, one minute decides whether the rollout takes a day longer.
type season struct {
	name    string
	hosts   int
	max     int
	window  func(n int) inventory.Window
	mean    time.Duration // that a host is down
	unknown int           // one in so many hosts has not rebooted yet; 0: none
	pause   time.Duration // from when the update comes; 0: none
	held    int           // the first hosts have hold files
}

var nightly = inventory.Window{Start: "02:00", Length: "2h", Zone: "UTC"}

var seasons = []season{
	{name: "one slot", hosts: 40, max: 1, mean: 6 * time.Minute, unknown: 10},
	{name: "three slots and a pause", hosts: 90, max: 3, mean: 6 * time.Minute, unknown: 30, pause: time.Hour},
	{name: "windows", hosts: 30, max: 1, mean: 12 * time.Minute, window: func(n int) inventory.Window {
		return []inventory.Window{nightly, {Start: "22:00", Length: "5h", Zone: "Europe/Berlin"}}[n%2]
	}},
	{name: "windows, two slots, a pause and hosts that are held", hosts: 36, max: 2, mean: 10 * time.Minute, pause: 150 * time.Minute, held: 2,
		window: func(n int) inventory.Window { return []inventory.Window{nightly, {}, nightly}[n%3] }},
}

// The plan says at the beginning, and when half of the hosts are done, when the last one will be: what then happens in
// a fleet that runs the real daemon's loop, lock and inventory is within a tenth of the time that was left.
func TestPlanForeseesTheEndOfTheRollout(t *testing.T) {
	seed := randtest.Seed(t)
	for n, s := range seasons {
		if n > 0 && race.Enabled { // they differ in what is decided, and not in goroutines
			break
		}
		t.Run(s.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { s.play(t, seed) })
		})
	}
}

func (s season) play(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 1))
	r := startRollout(t, seed, s.hosts, s.max, policy.PauseVersion, func(h *updating, n int) { s.setUp(h, n, rng) })
	time.Sleep(time.Minute)
	if s.pause > 0 {
		_, err := r.lock.Pause(t.Context(), lock.PauseInfo{By: "ann"}, s.pause)
		must.Do(t, err)
	}
	r.announce(fixVersion, time.Minute)
	time.Sleep(3 * time.Minute)

	due := s.hosts - s.held
	first := r.plan(s.max)
	r.await(30*24*time.Hour, "half of the hosts", func() bool { return len(r.booted(fixVersion)) >= due/2 })
	second := r.plan(s.max)
	done := func() bool { return len(r.booted(fixVersion)) == due && len(r.overview().Holders) == 0 }
	for began := time.Now(); !done(); time.Sleep(10 * time.Second) {
		if time.Since(began) > 30*24*time.Hour {
			t.Fatalf("the rollout does not end:\n%s", r)
		}
	}
	end := time.Now()
	for name, p := range map[string]plan.Plan{"at the beginning": first, "in the middle": second} {
		off, left := p.End.Sub(end), end.Sub(p.At)
		t.Logf("%s: %v left, and the plan is %v off (%+.1f %%); by %v, from %d reboots", name, left, off, 100*off.Seconds()/left.Seconds(), p.Duration.Typical, p.Duration.From)
		if off.Abs() > left/10 {
			t.Errorf("%s: the plan says %v, and the end is %v", name, p.End, end)
		}
		reboots, never := 0, 0
		for _, h := range p.Hosts {
			switch h.Outcome {
			case plan.Reboots:
				reboots++
			case plan.Never:
				never++
			}
		}
		if never != s.held || p.At.Equal(first.At) && reboots != due {
			t.Errorf("%s: %d hosts reboot, and %d never, of %d; %d are held", name, reboots, never, s.hosts, s.held)
		}
	}
}

// setUp gives a host its window, its hold, its own speed, and its last reboot, which took about as long.
func (s season) setUp(h *updating, n int, rng *rand.Rand) {
	usual := s.mean/2 + time.Duration(rng.Int64N(int64(s.mean)))
	if s.window != nil { // at the edges of openings it would matter
		usual = (usual + s.mean) / 2
	}
	noise := func(rng *rand.Rand) time.Duration { return time.Duration((0.9 + 0.2*rng.Float64()) * float64(usual)) }
	h.down = noise
	if s.unknown == 0 || n%s.unknown != 0 {
		taken := time.Now().Add(-30 * 24 * time.Hour)
		last := history.Reboot{BootID: "before", Version: oldVersion, Taken: taken, At: taken, Ended: taken.Add(noise(rng)), Verified: true}
		data, err := json.Marshal(history.Kept{Version: oldVersion, Last: &last})
		must.Do(h.t, err)
		h.write(history.DefaultPath, string(data))
	}
	self := inventory.Host{ID: fmt.Sprintf("%032d", n), Hostname: h.name}
	if s.window != nil && s.window(n) != (inventory.Window{}) {
		self.Window = new(s.window(n))
		w, err := window(*self.Window)
		must.Do(h.t, err)
		h.config.Window = w
	}
	if n < s.held {
		self.Hold = &inventory.Hold{Reason: "disks are swapped"}
		h.holds = true
	}
	h.records = func(ctx context.Context) daemon.Observer { return h.record(ctx, self) }
}

// record writes the record of the host until ctx ends.
func (h *updating) record(ctx context.Context, self inventory.Host) daemon.Observer {
	records, err := inventory.New(h.rollout.store, "")
	must.Do(h.t, err)
	w := inventory.NewWriter()
	w.Log, w.Policy = slog.New(slog.DiscardHandler), func() policy.Config { return h.config }
	self.OSVersion = h.runs
	w.Self = func() (inventory.Records, inventory.Host, error) {
		now := self
		kept, err := history.New(h.root).Read()
		must.Do(h.t, err)
		if last := kept.Last; last != nil {
			now.Last = &inventory.Reboot{Version: last.Version, At: last.At, Well: last.Verified}
			if last.Verified {
				now.Last.Took = last.Ended.Sub(last.Taken)
			}
		}
		return records, now, nil
	}
	h.rollout.lives.Go(func() { w.Run(ctx) })
	return w
}

// plan foresees the rest of the rollout. A host that has given back its slot says so some seconds later: until then its
// record may be too old to be believed.
func (r *rollout) plan(max int) plan.Plan {
	var f fleet.Fleet
	for said := false; !said; {
		var err error
		f, err = fleet.ReadGroup(r.t.Context(), r.memory, "", max, time.Now())
		must.Do(r.t, err)
		if said = !slices.ContainsFunc(f.Groups[0].Hosts, func(h fleet.Host) bool { return h.NoNews }); !said {
			time.Sleep(time.Second)
		}
	}
	return plan.Of(f.Groups[0], f.At, plan.Options{Window: func(w inventory.Window) (plan.Window, error) { return window(w) }})
}

func window(w inventory.Window) (*config.Window, error) {
	return config.NewWindow(w.Start, w.Length, w.Zone, w.Blackout)
}
