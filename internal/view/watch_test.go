package view

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/must"
)

func TestPaceAndEstimatedEnd(t *testing.T) {
	queue := func(n int) (q []lock.QueueEntry) {
		for range n {
			q = append(q, waiting("w", noon))
		}
		return q
	}
	w := NewWatch("")
	w.Observe(overview(1, []lock.HolderInfo{holding("0", noon)}, queue(100)...), noon)
	// One every 6 minutes for two hours, then one a minute: it is the last 20 that count.
	at, held := noon, 0
	next := func(step time.Duration) {
		at = at.Add(step)
		held++
		w.Observe(overview(1, []lock.HolderInfo{holding(string(rune('0'+held)), noon)}, queue(100-held)...), at)
	}
	for range 20 {
		next(6 * time.Minute)
	}
	want := func(w *Watch, now time.Time, rate, end string) {
		t.Helper()
		if got := w.rateText(now); got != rate {
			t.Errorf("the rate is %q, want %q", got, rate)
		}
		if got := w.endText(now); got != end {
			t.Errorf("the end is %q, want %q", got, end)
		}
	}
	want(w, at, "20 since 12:00:00, 10.0 an hour", "in about 8h06m, Sat 2027-01-02 22:06:00 UTC")
	for range 40 {
		next(time.Minute)
	}
	want(w, at, "60 since 12:00:00, 60.0 an hour", "in about 41m, Sat 2027-01-02 15:21:00 UTC")
	if r := progressOf(t, w, at); !r.Since.Equal(noon) || r.Reboots != 60 || *r.PerHour != 60 || !r.End.Equal(at.Add(41*time.Minute)) {
		t.Errorf("for programs it is %+v", r)
	}
	// Where nothing happens any more, that shows.
	want(w, at.Add(19*time.Minute), "60 since 12:00:00, 30.0 an hour", "in about 1h22m, Sat 2027-01-02 16:21:00 UTC")
	want(w, at.Add(1e6*time.Hour), "60 since 12:00:00, 0.0 an hour", "not in sight")
	if len(w.recent) != maxRecent {
		t.Errorf("%d times are kept", len(w.recent))
	}

	for end, o := range map[string]lock.Overview{
		"nobody waits":                           overview(1, nil),
		"to be estimated after the first reboot": overview(1, nil, queue(1)...),
		"not in sight while max is 0":            overview(0, nil, queue(1)...),
		"not in sight while paused":              {Pause: &lock.Pause{}, Queue: queue(1)},
		"not in sight while a version is paused": {Unwell: []lock.UnwellHost{{Version: "1"}}, Queue: queue(1)},
	} {
		w := NewWatch("")
		w.Observe(o, noon)
		want(w, noon, "0 since 12:00:00", end)
		if r := progressOf(t, w, noon); r.Reboots != 0 || r.PerHour != nil || r.End != nil {
			t.Errorf("%s: for programs it is %+v", end, r)
		}
	}
}

func TestWatchReportsWhatIsNew(t *testing.T) {
	w := NewWatch("")
	held := overview(1, []lock.HolderInfo{holding("1", noon)})
	for i, step := range []struct {
		failure string
		seen    lock.Overview
		changed bool
	}{
		{failure: "refused", changed: true},
		{failure: "refused"},
		{failure: "no answer", changed: true},
		{seen: held, changed: true},
		{failure: "no answer", changed: true},
		{seen: held},
		{seen: overview(1, nil), changed: true},
	} {
		changed := false
		if step.failure != "" {
			changed = w.Fail(errors.New(step.failure))
		} else {
			changed = w.Observe(step.seen, noon)
		}
		if changed != step.changed {
			t.Errorf("step %d is news: %v", i, changed)
		}
	}
}

func TestDocumentsOfAWatchCanBeToldApart(t *testing.T) {
	w := NewWatch("lb")
	w.Observe(overview(1, nil), noon)
	for f, want := range map[Format]string{
		JSON: `{"group":"lb","available":1,"max":1,"paused":null,"holders":[],"queue":[],"progress":{"since":"2027-01-02T12:00:00Z","reboots":0,"per_hour":null,"end":null}}` + "\n",
		YAML: "---\ngroup: lb\navailable: 1\nmax: 1\npaused: null\nholders: []\nqueue: []\nprogress:\n    since: 2027-01-02T12:00:00Z\n    reboots: 0\n    per_hour: null\n    end: null\n",
	} {
		got, err := w.Document(f, noon)
		must.Do(t, err)
		if got != want {
			t.Errorf("%s is\n%swant\n%s", f, got, want)
		}
	}
}

// progressOf returns the progress as programs read it.
func progressOf(t *testing.T, w *Watch, now time.Time) progressDocument {
	t.Helper()
	text, err := w.Document(JSON, now)
	must.Do(t, err)
	var d Document
	must.Do(t, json.Unmarshal([]byte(text), &d))
	return *d.Progress
}
