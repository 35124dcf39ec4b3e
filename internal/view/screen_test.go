package view

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/lock"
)

func TestViewOnATerminal(t *testing.T) {
	holders := []lock.HolderInfo{holding("1", noon), holding("2", noon.Add(time.Minute)), {ID: "3", Broken: true}, {ID: "4"}}
	holders[0].Expired = true
	var queue []lock.QueueEntry
	for _, id := range strings.Split("abcdefghijklmnopqrstuvwxyz", "") {
		queue = append(queue, waiting(id, noon.Add(-time.Hour)))
	}
	paused := overview(2, holders[:1], queue[:2]...)
	paused.Pause = &lock.Pause{By: "ann@bastion", Since: noon, Reason: "bad release", All: true}
	hostile := overview(1, []lock.HolderInfo{{ID: "x\x1b[2J\r\n" + strings.Repeat("long", 1000)}})

	for name, screen := range map[string]func() []string{
		"nothing": func() []string {
			return NewWatch("").Screen(noon, 80, 24)
		},
		"unreachable": func() []string {
			w := NewWatch("lb")
			w.Fail(errors.New("etcd at http://10.0.0.1:2379: connection\x1b refused"))
			return w.Screen(noon, 80, 24)
		},
		"fleet": func() []string {
			w := NewWatch("prod/database")
			w.Observe(overview(4, []lock.HolderInfo{holding("0", noon)}, queue...), noon)
			w.Observe(overview(4, holders, queue...), noon.Add(10*time.Minute))
			return w.Screen(noon.Add(20*time.Minute), 80, 20)
		},
		"short-queue": func() []string {
			w := NewWatch("")
			w.Observe(overview(4, holders, queue[:1]...), noon)
			return w.Screen(noon, 80, 13)
		},
		"short-holders": func() []string {
			w := NewWatch("")
			w.Observe(overview(4, holders[:1], queue...), noon)
			return w.Screen(noon, 80, 16)
		},
		"no-room": func() []string {
			w := NewWatch("")
			w.Observe(overview(4, holders, queue...), noon)
			return w.Screen(noon, 80, 12)
		},
		"out-of-date": func() []string {
			w := NewWatch("")
			w.Observe(overview(4, holders, queue...), noon)
			w.Fail(errors.New("read the lock: no answer in time from etcd at http://10.0.0.1:2379"))
			return w.Screen(noon.Add(time.Minute), 60, 14)
		},
		"paused": func() []string {
			w := NewWatch("")
			w.Observe(paused, noon)
			return w.Screen(noon.Add(time.Minute), 100, 24)
		},
		"unwell": func() []string {
			a, unwell := sick("a", noon, "after-reboot: 20-etcd: no quorum")
			o := overview(2, []lock.HolderInfo{a, holding("b", noon)}, queue[:1]...)
			o.Unwell = []lock.UnwellHost{unwell}
			w := NewWatch("")
			w.Observe(o, noon)
			return w.Screen(noon.Add(time.Minute), 130, 24)
		},
		"done": func() []string {
			w := NewWatch("")
			w.Observe(overview(1, holders[:1]), noon)
			w.Observe(overview(1, nil), noon.Add(time.Minute))
			return w.Screen(noon.Add(2*time.Minute), 100, 24)
		},
		"hostile": func() []string {
			w := NewWatch("")
			w.Observe(hostile, noon)
			return w.Screen(noon, 80, 24)
		},
	} {
		t.Run(name, func(t *testing.T) {
			golden(t, "screen-"+name+".txt", strings.Join(screen(), "\n")+"\n")
		})
	}

	w := NewWatch("")
	w.Observe(overview(4, holders, queue...), noon)
	for width := range 90 {
		for height := range 40 {
			lines := w.Screen(noon, width, height)
			if len(lines) > max(1, height) {
				t.Fatalf("%d lines on a terminal of %dx%d", len(lines), width, height)
			}
			for _, l := range lines {
				if len([]rune(l)) > width {
					t.Fatalf("%q on a terminal of %dx%d", l, width, height)
				}
			}
		}
	}
}

func TestLinesTellWhatHasChanged(t *testing.T) {
	w := NewWatch("")
	expect := func(o lock.Overview, at time.Time, want string) {
		t.Helper()
		w.Observe(o, at)
		if got := w.Line(at); got != want+"\n" {
			t.Errorf("got  %q\nwant %q", got, want+"\n")
		}
	}
	const stamp = "Sat 2027-01-02 12:00:00 UTC  "
	expectPhases(t)
	expect(overview(1, nil), noon, stamp+"1 of 1 available; 0 waiting; reboots: 0 since 12:00:00; end: nobody waits")
	o := overview(1, []lock.HolderInfo{holding("a", noon)}, waiting("b", noon))
	expect(o, noon, stamp+"taken by web-a (a); 0 of 1 available; 1 waiting; reboots: 0 since 12:00:00; end: to be estimated after the first reboot")
	o.Pause = &lock.Pause{By: "ann", Reason: "why"}
	expect(o, noon, stamp+"paused: by ann: why; 0 of 1 available; 1 waiting; reboots: 0 since 12:00:00; end: not in sight while paused")
	expect(o, noon, stamp+"0 of 1 available; 1 waiting; reboots: 0 since 12:00:00; end: not in sight while paused")
	o = overview(1, []lock.HolderInfo{holding("b", noon)})
	expect(o, noon.Add(time.Minute), "Sat 2027-01-02 12:01:00 UTC  given back by web-a (a); taken by web-b (b); paused: no; 0 of 1 available; 0 waiting; reboots: 1 since 12:00:00, 60.0 an hour; end: in about 1m, Sat 2027-01-02 12:02:00 UTC")
	many := []lock.HolderInfo{holding("b", noon), {ID: "c\x1b[2J"}, {ID: "d"}, {ID: "e"}, {ID: "f"}, {ID: "g"}, {ID: "h"}}
	expect(overview(9, many), noon.Add(time.Minute), `Sat 2027-01-02 12:01:00 UTC  taken by c\x1b[2J, d, e, f, g, and 1 more; 2 of 9 available; 0 waiting; reboots: 1 since 12:00:00, 60.0 an hour; end: in about 7m, Sat 2027-01-02 12:08:00 UTC`)
}

func expectPhases(t *testing.T) {
	t.Helper()
	w := NewWatch("")
	a, unwell := sick("a", noon, "20-etcd: no\x1b quorum")
	b := holding("b", noon)
	observe := func(want string, unwell []lock.UnwellHost, holders ...lock.HolderInfo) {
		t.Helper()
		o := overview(2, holders)
		o.Unwell = unwell
		w.Observe(o, noon)
		if got, _, _ := strings.Cut(strings.TrimPrefix(w.Line(noon), "Sat 2027-01-02 12:00:00 UTC  "), "; 0 of 2 available"); got != want {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	}
	checking := a
	checking.Record.Phase, checking.Record.PhaseWhy = lock.Checking, ""
	observe("0 of 2 available; 0 waiting; reboots: 0 since 12:00:00; end: to be estimated after the first reboot\n", nil, checking, b)
	observe(`web-a (a) is unwell: 20-etcd: no\x1b quorum; paused: version 4230.2.1, since host web-a (a) is unwell: 20-etcd: no\x1b quorum`, []lock.UnwellHost{unwell}, a, b)
	resumed := unwell
	resumed.Resumed = true
	observe("paused: no", []lock.UnwellHost{resumed}, a, b)
	b.Record.Phase = "dancing"
	again := a
	again.Record.Phase, again.Record.PhaseWhy = "", ""
	observe("web-a (a) is in no phase; web-b (b) is dancing", []lock.UnwellHost{resumed}, again, b)
}

func TestCut(t *testing.T) {
	for _, c := range []struct {
		line  string
		width int
		want  string
	}{
		{"grün", 4, "grün"}, {"grün", 5, "grün"}, {"grünlich", 5, "gr..."}, {"grünlich", 7, "grün..."},
		{"grün", 3, "..."}, {"grün", 2, "gr"}, {"grün", 0, ""}, {"grün", -1, ""}, {"", 0, ""},
	} {
		if got := Cut(c.line, c.width); got != c.want {
			t.Errorf("%q in %d characters is %q, want %q", c.line, c.width, got, c.want)
		}
	}
}
