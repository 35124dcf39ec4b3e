package plan_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/internal/fleet"
	"github.com/locksmithd/locksmith/internal/inventory"
	"github.com/locksmithd/locksmith/internal/plan"
	"github.com/locksmithd/locksmith/test/randtest"
)

func TestTypicalDurationLeavesOutWhatWasNoOrdinaryReboot(t *testing.T) {
	var hosts []fleet.Host
	for n := range 10 {
		hosts = append(hosts, needs(n+1, 4+n%3))
	}
	hosts = append(hosts, needs(11, 0), needs(12, 3*24*60))
	p := plan.Of(group(1, hosts...), noon, options)
	d := p.Duration
	if d.From != 10 || d.Typical < 4*time.Minute || d.Typical > 6*time.Minute || d.Median != 5*time.Minute || d.Short != 4*time.Minute || d.Long != 6*time.Minute {
		t.Errorf("%+v", d)
	}
	for _, h := range p.Hosts {
		if own := h.ID < "00011"; h.Own != own || !own && h.Took != d.Typical {
			t.Errorf("%+v", h)
		}
	}
	if d := plan.Of(group(1, needs(1, 0)), noon, options).Duration; d.From != 0 || d.Typical != plan.DefaultDuration {
		t.Errorf("without a reboot: %+v", d)
	}
}

func TestOldRebootsCountOnlyWhereThereAreNoNewerOnes(t *testing.T) {
	old := needs(9, 50)
	old.Last.At = noon.AddDate(-2, 0, 0)
	if d := plan.Of(group(1, old), noon, options).Duration; d.Typical != 50*time.Minute {
		t.Errorf("%+v", d)
	}
	hosts := []fleet.Host{old}
	for n := range 5 {
		hosts = append(hosts, needs(n+1, 4))
	}
	if d := plan.Of(group(1, hosts...), noon, options).Duration; d.Typical != 4*time.Minute || d.From != 5 {
		t.Errorf("%+v", d)
	}
}

// What foresees the end best: that each host takes as long as it did the last time. Where hosts differ, the mean of all
// is wrong as soon as the slow ones come last; where they do not, it is no worse to ask the host. The median of all is
// too short where few hosts take long.
func TestOwnDurationOfAHostForeseesBest(t *testing.T) {
	rng := rand.New(rand.NewPCG(randtest.Seed(t), 0))
	for name, usual := range map[string]func(n int) float64{ // minutes that a host takes
		"all the same":            func(int) float64 { return 8 },
		"some are slow":           func(n int) float64 { return []float64{4, 4, 4, 4, 24}[n%5] },
		"the slow ones come last": func(n int) float64 { return map[bool]float64{false: 3, true: 25}[n >= 45] },
	} {
		const hosts, done = 60, 40
		took := func(n int) time.Duration {
			return time.Duration(usual(n) * (0.9 + 0.2*rng.Float64()) * float64(time.Minute))
		}
		var all, left []fleet.Host
		actual, median := time.Duration(0), []time.Duration{}
		for n := range hosts {
			h := queued(max(1, n-done+1), 0)
			h.ID, h.Last = needs(n, 0).ID, &inventory.Reboot{At: noon, Took: took(n)}
			median = append(median, h.Last.Took)
			if n < done {
				h.Need, h.State, h.Place = nil, "idle", 0
			} else {
				actual += took(n)
				left = append(left, h)
			}
			all = append(all, h)
		}
		slices.Sort(median)
		p := plan.Of(group(1, all...), noon, options)
		off := func(d time.Duration) float64 { return 100 * (d.Seconds()/actual.Seconds() - 1) }
		own, mean, middle := off(p.End.Sub(noon)), off(p.Duration.Typical*time.Duration(len(left))), off(median[hosts/2]*time.Duration(len(left)))
		t.Logf("%s: %v left; off by %+.1f %% with each host's own last reboot, %+.1f %% with the mean, %+.1f %% with the median", name, actual, own, mean, middle)
		if max(own, -own) > 10 {
			t.Errorf("%s: the plan is off by %+.1f %%", name, own)
		}
	}
}
