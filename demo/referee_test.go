package main

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/must"
)

var epoch = time.Date(2026, 3, 5, 4, 0, 0, 0, time.UTC)

// semaphore returns a semaphore with these holders.
func semaphore(max int, holders ...string) lock.Semaphore {
	return lock.Semaphore{Free: max - len(holders), Max: max, Holders: holders}
}

// at sets the times of events, 100 ms apart.
func at(events ...event) []event {
	for i := range events {
		events[i].At = epoch.Add(time.Duration(i+1) * 100 * time.Millisecond)
	}
	return events
}

// says is a status of a locksmithd.
func says(host, text string) event { return event{Kind: status, Host: host, Text: text} }

const (
	saysIdle    = "idle: no reboot is needed since Thu 2026-03-05 04:00:00 UTC"
	saysWaiting = "reboot needed since Thu 2026-03-05 04:00:01 UTC for version 4081.2.0; waiting for a slot since Thu 2026-03-05 04:00:01 UTC: no slot is free: max is 1, held by 00000000000000000000000000000001"
)

// beginning has the events before the first reboot.
func beginning(max int, hosts ...string) []event {
	events := []event{{Kind: etcdRuns, Text: "http://127.0.0.2:2379"}}
	for _, h := range hosts {
		events = append(events, event{Kind: started, Host: h}, says(h, saysIdle))
	}
	return append(events,
		event{Kind: slots, Semaphore: semaphore(max)},
		event{Kind: maxSet, Text: "locksmithctl set-max prints Old: 1, New: 1"},
		event{Kind: announced, Text: "4081.2.0"})
}

func takes(h string, s lock.Semaphore) event { return event{Kind: took, Host: h, Semaphore: s} }
func gives(h string, s lock.Semaphore) event { return event{Kind: released, Host: h, Semaphore: s} }
func goesDown(h string) event                { return event{Kind: down, Host: h} }
func boots(h string) event                   { return event{Kind: up, Host: h, Text: newVersion} }

// good is a correct history of two hosts with one slot.
func good() []event {
	return append(beginning(1, "a", "b"),
		takes("a", semaphore(1, "a")),
		says("b", saysWaiting),
		goesDown("a"),
		boots("a"),
		gives("a", semaphore(1)),
		takes("b", semaphore(1, "b")),
		says("a", saysIdle),
		goesDown("b"),
		boots("b"),
		gives("b", semaphore(1)),
		says("b", saysIdle))
}

// judge returns the referee's error about a history, during or after it.
func judge(t *testing.T, max int, hosts []string, history []event) (*referee, error) {
	t.Helper()
	r := newReferee(hosts, max, epoch)
	for _, e := range at(history...) {
		if err := r.observe(e); err != nil {
			return r, err
		}
	}
	return r, r.verdict()
}

func TestRefereeFindsNothingWrongWithAGoodHistory(t *testing.T) {
	r, err := judge(t, 1, []string{"a", "b"}, good())
	if err != nil || !r.done() {
		t.Errorf("error %v, done %v; want nil, true", err, r.done())
	}
	if r.mostDown != 1 || r.mostHeld != 1 || len(r.reboots) != 2 {
		t.Errorf("at most %d down, %d held, %d reboots; want 1, 1, 2", r.mostDown, r.mostHeld, len(r.reboots))
	}
	if want := []time.Duration{100 * time.Millisecond}; !slices.Equal(r.handovers, want) {
		t.Errorf("hand-overs %v, want %v", r.handovers, want)
	}
}

func TestRefereeIsNotDoneBeforeAllSlotsAreReleasedAndAllHostsAreIdle(t *testing.T) {
	r := newReferee([]string{"a", "b"}, 1, epoch)
	for _, e := range at(good()...) {
		if r.done() {
			t.Fatalf("done before %+v", e)
		}
		must.Do(t, r.observe(e))
	}
}

func TestRefereeCountsNoHandoverWhileOtherSlotsAreFree(t *testing.T) {
	history := append(beginning(2, "a", "b", "c"),
		takes("a", semaphore(2, "a")),
		goesDown("a"),
		boots("a"),
		gives("a", semaphore(2)),
		takes("b", semaphore(2, "b")),
		takes("c", semaphore(2, "b", "c")))
	if r, _ := judge(t, 2, []string{"a", "b", "c"}, history); len(r.handovers) != 0 {
		t.Errorf("hand-overs %v, want none", r.handovers)
	}
}

func TestRefereeFindsEachViolation(t *testing.T) {
	start := func() []event { return beginning(1, "a", "b") }
	for name, c := range map[string]struct {
		history []event
		want    string
	}{
		"two down at max one": {
			append(start(), takes("a", semaphore(1, "a")), goesDown("a"), goesDown("b")),
			"2 hosts were down at once, a and b, but only 1 may be",
		},
		"down again before another is up": {
			append(start(), takes("a", semaphore(1, "a")), goesDown("a"), boots("a"), gives("a", semaphore(1)),
				takes("b", semaphore(1, "b")), goesDown("b"), goesDown("a")),
			"2 hosts were down at once, a and b, but only 1 may be",
		},
		"two holders at max one, whatever the document says": {
			append(start(), takes("a", semaphore(2, "a")), takes("b", semaphore(2, "a", "b"))),
			"2 slots were held at once, by a and b, but only 1 may be",
		},
		"reboot without a slot": {
			append(start(), goesDown("a")),
			"a rebooted without holding a slot",
		},
		"slot lost while down": {
			append(start(), takes("a", semaphore(1, "a")), goesDown("a"), gives("a", semaphore(1))),
			"a lost its slot while it was down",
		},
		"reboot before there is an update": {
			append(start()[:5], goesDown("a")),
			"a rebooted without an update",
		},
		"second reboot": {
			append(good(), goesDown("a")),
			"a rebooted twice for one update",
		},
		"stranger takes a slot": {
			append(start(), takes("f00", semaphore(1, "f00"))),
			`"f00" took a slot and is not one of the hosts`,
		},
		"daemon dies": {
			append(start(), event{Kind: broke, Host: "a", Err: errors.New("locksmithd ended by itself")}),
			"a: locksmithd ended by itself",
		},
		"watch breaks": {
			append(start(), event{Kind: broke, Err: errors.New("watch the semaphore: gone")}),
			"watch the semaphore: gone",
		},
		"host left behind": {
			good()[:len(good())-4],
			"1 of 2 hosts were left behind: b (rebooting: " + saysWaiting + "); 1 of 1 slots were left held by b",
		},
		"host does not come back": {
			good()[:len(good())-3],
			"1 of 2 hosts were left behind: b (down); 1 of 1 slots were left held by b",
		},
		"host is not idle after its reboot": {
			append(good(), says("a", saysWaiting)),
			"1 of 2 hosts were left behind: a (booting: " + saysWaiting + ")",
		},
		"host boots another version": {
			append(good()[:len(good())-3], event{Kind: up, Host: "b", Text: "4081.1.0"}, gives("b", semaphore(1)), says("b", saysIdle)),
			"1 of 2 hosts were left behind: b (waiting: " + saysIdle + ")",
		},
		"lock left held by a host": {
			slices.DeleteFunc(good(), func(e event) bool { return e.Kind == released && e.Host == "b" }),
			"1 of 1 slots were left held by b",
		},
		"lock left held by a stranger": {
			append(good(), event{Kind: slots, Semaphore: semaphore(1, "f00")}),
			"1 of 1 slots were left held by f00",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := judge(t, 1, []string{"a", "b"}, c.history)
			if err == nil || err.Error() != c.want {
				t.Errorf("error %v, want %s", err, c.want)
			}
			if r.done() && !strings.Contains(name, "second") {
				t.Error("it counts as done")
			}
		})
	}
}

func TestChangesOfTheSemaphoreBecomeSeparateEvents(t *testing.T) {
	name := func(id string) string { return "host-" + id }
	for _, c := range []struct {
		before, after lock.Semaphore
		want          []event
	}{
		{lock.Semaphore{}, semaphore(1), []event{{Kind: slots}}},
		{semaphore(1), semaphore(1), nil},
		{semaphore(1), semaphore(1, "a"), []event{{Kind: took, Host: "host-a"}}},
		{semaphore(1, "a"), semaphore(1, "b"), []event{{Kind: released, Host: "host-a"}, {Kind: took, Host: "host-b"}}},
		{semaphore(1, "a"), semaphore(2, "a", "b"), []event{{Kind: slots}, {Kind: took, Host: "host-b"}}},
	} {
		got := changes(c.before, c.after, name)
		same := slices.EqualFunc(got, c.want, func(a, b event) bool { return a.Kind == b.Kind && a.Host == b.Host })
		if !same {
			t.Errorf("from %+v to %+v: %+v, want %+v", c.before, c.after, got, c.want)
		}
	}
}
