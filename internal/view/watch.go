package view

import (
	"reflect"
	"slices"
	"time"

	"github.com/locksmithd/locksmith/lock"
)

// Watch is what has been seen of a group's lock since somebody began to watch it.
type Watch struct {
	group   string
	last    *lock.Overview // nil before the first
	failure string         // why last may be out of date; "" if it is not

	started  time.Time
	released int         // slots released since
	recent   []time.Time // when the last of them were released
	change   change      // the last one
}

// change is what the last overview changed.
type change struct {
	taken, released []lock.HolderInfo
	phases          []lock.HolderInfo // that have another phase
	pause           bool              // began, ended, or became another
}

// maxRecent is how many released slots the rate is made of.
const maxRecent = 20

// NewWatch returns a watch without an observation.
func NewWatch(group string) *Watch { return &Watch{group: group} }

// Observe records an overview, and reports whether it differs from the one before.
func (w *Watch) Observe(o lock.Overview, now time.Time) (changed bool) {
	w.failure, w.change = "", change{}
	switch {
	case w.last == nil:
		w.started = now
	case reflect.DeepEqual(*w.last, o):
		return false
	default:
		w.change = change{
			taken:    without(o.Holders, w.last.Holders),
			released: without(w.last.Holders, o.Holders),
			phases:   phases(o.Holders, w.last.Holders),
			pause:    !reflect.DeepEqual(w.last.Pause, o.Pause) || !reflect.DeepEqual(w.last.VersionPauses(), o.VersionPauses()),
		}
	}
	n := len(w.change.released)
	w.released += n
	w.recent = append(w.recent, slices.Repeat([]time.Time{now}, n)...)
	w.recent = w.recent[max(0, len(w.recent)-maxRecent):]
	w.last = &o
	return true
}

// Fail records why the last overview may be out of date, and reports whether it is new.
func (w *Watch) Fail(err error) (changed bool) {
	changed = w.failure != err.Error()
	w.failure = err.Error()
	return changed
}

// without returns the holders that are not among others.
func without(holders, others []lock.HolderInfo) []lock.HolderInfo {
	return slices.DeleteFunc(slices.Clone(holders), func(h lock.HolderInfo) bool {
		return slices.ContainsFunc(others, func(o lock.HolderInfo) bool { return o.ID == h.ID })
	})
}

// phases returns the holders that have reported another phase, or another reason for it, than before.
func phases(holders, before []lock.HolderInfo) []lock.HolderInfo {
	return slices.DeleteFunc(slices.Clone(holders), func(h lock.HolderInfo) bool {
		i := slices.IndexFunc(before, func(o lock.HolderInfo) bool { return o.ID == h.ID })
		if i < 0 {
			return h.Record.Phase == ""
		}
		return h.Record.Phase == before[i].Record.Phase && h.Record.PhaseWhy == before[i].Record.PhaseWhy
	})
}

// pace returns how long a reboot took lately, on average over the whole fleet; 0 if there was none.
func (w *Watch) pace(now time.Time) time.Duration {
	from, n := w.started, len(w.recent)
	if w.released > n { // when the slot before the first of them was released is not known
		from, n = w.recent[0], n-1
	}
	if n == 0 {
		return 0
	}
	return now.Sub(from) / time.Duration(n)
}

// perHour returns how many hosts reboot in an hour; 0 if none did.
func (w *Watch) perHour(now time.Time) float64 {
	if each := w.pace(now); each > 0 {
		return float64(time.Hour) / float64(each)
	}
	return 0
}

// maxRemaining is the longest time that is estimated.
const maxRemaining = 365 * 24 * time.Hour

// end estimates when nobody will wait or hold a slot any more, if reboots go on at their pace. If that cannot
// be estimated, why says why not.
func (w *Watch) end(now time.Time) (end time.Time, why string) {
	left := len(w.last.Holders) + len(w.last.Queue)
	each := w.pace(now)
	switch {
	case left == 0:
		why = "nobody waits"
	case w.last.Pause != nil:
		why = "not in sight while paused"
	case len(w.last.VersionPauses()) > 0:
		why = "not in sight while a version is paused"
	case w.last.Semaphore.Max == 0 && len(w.last.Queue) > 0:
		why = "not in sight while max is 0"
	case each == 0:
		why = "to be estimated after the first reboot"
	case each > maxRemaining/time.Duration(left):
		why = "not in sight"
	default:
		end = now.Add(each * time.Duration(left))
	}
	return end, why
}
