package plan

import (
	"slices"
	"time"

	"github.com/locksmithd/locksmith/internal/fleet"
)

// Duration is how long hosts of a group have their slots, from taking one to giving it back.
type Duration struct {
	// Typical is the mean, by which the sum of many reboots is foreseen best. A host of which the last one is known is
	// taken to need as long again.
	Typical time.Duration
	Median  time.Duration
	// Short and Long are what one in ten hosts is faster, or slower, than.
	Short, Long time.Duration
	From        int // reboots that are known; 0: Typical is DefaultDuration, and the others are not known
}

// DefaultDuration is how long a host has its slot where no reboot of its group is known.
const DefaultDuration = 5 * time.Minute

const (
	// recent is how old reboots may be where there are enough newer ones.
	recent = 180 * 24 * time.Hour
	enough = 5
	// A reboot that took so many times as long as the median, and longer than outlierLeast, was no ordinary one: the host
	// was without power, for example.
	outlier      = 10
	outlierLeast = time.Hour
	// A host that has its slot for so many times as long as its reboot takes, and for stuckLeast, will not come back by
	// itself.
	stuck      = 4
	stuckLeast = 30 * time.Minute
)

// times is how long the reboots of a group took.
type times struct {
	Duration
	sorted []time.Duration
	most   time.Duration // that is no outlier; 0: nothing is
}

func timesOf(hosts []fleet.Host, now time.Time) (t times) {
	var fresh []time.Duration
	for n := range hosts {
		last := hosts[n].Last
		if last == nil || last.Took < time.Second {
			continue
		}
		t.sorted = append(t.sorted, last.Took)
		if now.Sub(last.At) < recent {
			fresh = append(fresh, last.Took)
		}
	}
	if len(fresh) >= enough {
		t.sorted = fresh
	}
	if len(t.sorted) == 0 {
		t.Typical = DefaultDuration
		return t
	}
	slices.Sort(t.sorted)
	if median := t.sorted[len(t.sorted)/2]; len(t.sorted) >= enough {
		t.most = max(outlierLeast, outlier*median)
		ordinary, _ := slices.BinarySearch(t.sorted, t.most+1)
		t.sorted = t.sorted[:ordinary]
	}
	n := len(t.sorted)
	mean := 0.0 // a sum of durations may be too long for one
	for _, took := range t.sorted {
		mean += float64(took) / float64(n)
	}
	t.From, t.Typical = n, time.Duration(mean).Round(time.Second)
	t.Median, t.Short, t.Long = t.sorted[n/2], t.sorted[n/10], t.sorted[n-1-n/10]
	return t
}

// of returns how long the next reboot of a host takes, and whether that is known from its last one.
func (t *times) of(h *fleet.Host) (took time.Duration, own bool) {
	if last := h.Last; last != nil && last.Took >= time.Second && (t.most == 0 || last.Took <= t.most) {
		return last.Took, true
	}
	return t.Typical, false
}

// rest returns how much longer a host has its slot that has had it for an age and takes a time.
func (t *times) rest(took, age time.Duration) time.Duration {
	if age < took {
		return max(took-age, took/10)
	}
	longer := t.sorted[searchAfter(t.sorted, age):]
	if len(longer) == 0 {
		return took / 10
	}
	mean := 0.0
	for _, l := range longer {
		mean += float64(l-age) / float64(len(longer))
	}
	return max(time.Duration(mean), took/10)
}

// searchAfter returns the index of the first duration that is longer than d.
func searchAfter(sorted []time.Duration, d time.Duration) int {
	n, _ := slices.BinarySearch(sorted, d+1)
	return n
}

// isStuck reports whether a host that takes a time for its reboot, and has had its slot for an age, does not come back
// by itself.
func (t *times) isStuck(took, age time.Duration) bool {
	return age > max(stuckLeast, stuck*took, stuck*t.Typical)
}
