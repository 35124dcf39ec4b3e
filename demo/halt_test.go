package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/must"
)

const (
	saysWhy    = "locksmith-after-reboot.service failed with exit status 1: 10-smoke: the service answers 503"
	saysUnwell = "this host is unwell after its reboot; trying again, the last attempt failed: " + saysWhy
	saysPaused = "waiting for a slot: paused for version 4081.2.0, since host a (1) is unwell: " + saysWhy
)

// isUnwell is what a host says in etcd about a version.
func isUnwell(h, version, why string) event {
	return event{Kind: unwell, Host: h, Unwell: &lock.UnwellHost{Version: version, Why: why}}
}

// leaves is what a host says in etcd when it takes another version.
func leaves(h string) event {
	return event{Kind: unwell, Host: h, Unwell: &lock.UnwellHost{Version: newVersion, Why: saysWhy, Left: true}}
}

func bootsVersion(h, version string) event { return event{Kind: up, Host: h, Text: version} }

func shows(text string) event { return event{Kind: shown, Text: text} }

const showsUnwell = "locksmithctl status -o wide prints\nAvailable: 0\n\nUNWELL  HOSTNAME  VERSION   WHY\n1       a         4081.2.0  " + saysWhy + "\n"

func announces(version string) event { return event{Kind: announced, Text: version} }

// isSick has the events until a rollout over two hosts has stopped because of the first.
func isSick() []event {
	return append(beginning(1, "a", "b"),
		takes("a", semaphore(1, "a")),
		says("b", saysWaiting),
		goesDown("a"),
		bootsVersion("a", newVersion),
		isUnwell("a", newVersion, saysWhy),
		says("a", saysUnwell),
		says("b", saysPaused))
}

// isMended has the events until the first host has the fix.
func isMended() []event {
	return append(isSick(),
		shows(showsUnwell),
		announces(fixVersion),
		leaves("a"),
		goesDown("a"),
		bootsVersion("a", fixVersion),
		gives("a", semaphore(1)),
		says("a", saysIdle))
}

// stopsAndGoesOn is a correct history of a rollout of a bad version.
func stopsAndGoesOn() []event {
	return append(isMended(),
		takes("b", semaphore(1, "b")),
		goesDown("b"),
		bootsVersion("b", fixVersion),
		gives("b", semaphore(1)),
		says("b", saysIdle))
}

// judgeBad is judge for a rollout that has to stop.
func judgeBad(t *testing.T, max int, hosts []string, history []event) (*referee, error) {
	t.Helper()
	r := newReferee(hosts, max, epoch)
	r.expectStop(newVersion, fixVersion)
	for _, e := range at(history...) {
		if err := r.observe(e); err != nil {
			return r, err
		}
	}
	return r, r.verdict()
}

func TestRefereeFindsNothingWrongWithARolloutThatStopsAndGoesOn(t *testing.T) {
	r, err := judgeBad(t, 1, []string{"a", "b"}, stopsAndGoesOn())
	if err != nil || !r.done() {
		t.Errorf("error %v, done %v; want nil, true", err, r.done())
	}
}

func TestRolloutHasStoppedOnlyWhenEveryHostIsUnwellOrWaitsForThat(t *testing.T) {
	for n := range isSick() {
		if r, _ := judgeBad(t, 1, []string{"a", "b"}, isSick()[:n]); r.stopped() {
			t.Fatalf("stopped after %+v", isSick()[:n])
		}
	}
	if r, _ := judgeBad(t, 1, []string{"a", "b"}, isSick()); !r.stopped() {
		t.Error("not stopped")
	}
	if r, _ := judgeBad(t, 1, []string{"a", "b", "c"}, isSick()); r.stopped() {
		t.Error("stopped although a host does not wait")
	}
	both := append(beginning(2, "a", "b"),
		takes("a", semaphore(2, "a")), takes("b", semaphore(2, "a", "b")), goesDown("a"), goesDown("b"),
		bootsVersion("a", newVersion), bootsVersion("b", newVersion), isUnwell("a", newVersion, saysWhy), says("a", saysUnwell), says("b", saysUnwell))
	if r, _ := judgeBad(t, 2, []string{"a", "b"}, both); r.stopped() {
		t.Error("stopped although an unwell host has not said so in etcd")
	}
	both = append(both, isUnwell("b", newVersion, saysWhy))
	if r, _ := judgeBad(t, 2, []string{"a", "b"}, both); !r.stopped() {
		t.Error("not stopped although both hosts are unwell")
	}
}

func TestRefereeFindsEachWayOfNotStopping(t *testing.T) {
	start := func() []event { return beginning(2, "a", "b") }
	without := func(history []event, is func(event) bool) []event { return slices.DeleteFunc(history, is) }
	for name, c := range map[string]struct {
		max     int
		history []event
		want    string
	}{
		"more hosts boot the bad version than may": {1,
			append(start(), takes("a", semaphore(2, "a")), goesDown("a"), bootsVersion("a", newVersion), gives("b", semaphore(2)),
				event{Kind: slots, Semaphore: semaphore(2)}, takes("b", semaphore(2, "b")), goesDown("b"), bootsVersion("b", newVersion)),
			"2 hosts booted version 4081.2.0, a and b, but only 1 may: the rollout did not stop"},
		"a slot is taken while the version is paused": {2,
			append(start(), takes("a", semaphore(2, "a")), goesDown("a"), bootsVersion("a", newVersion),
				isUnwell("a", newVersion, saysWhy), takes("b", semaphore(2, "a", "b"))),
			"b took a slot although a was unwell with version 4081.2.0: the rollout did not stop"},
		"an unwell host gives its slot back": {1,
			append(isSick(), gives("a", semaphore(1))),
			"a gave its slot back, and is not well with version 4081.2.0"},
		"a host is well with the bad version": {1,
			append(start(), takes("a", semaphore(2, "a")), goesDown("a"), bootsVersion("a", newVersion), gives("a", semaphore(2))),
			"a gave its slot back, and is not well with version 4081.2.0"},
		"an unwell host reboots before there is a fix": {1,
			append(isSick(), goesDown("a")),
			"a rebooted twice for one update"},
		"a host is unwell with the fix": {1,
			append(isMended()[:len(isMended())-2], isUnwell("a", fixVersion, saysWhy)),
			"a is unwell with version 4081.2.1: " + saysWhy},
		"a host does not say why it is unwell": {1,
			append(isSick()[:len(isSick())-3], isUnwell("a", newVersion, "somehow")),
			`a does not say that 10-smoke said "the service answers 503", but: somehow`},
		"a stranger is unwell": {1,
			append(start(), isUnwell("f00", newVersion, saysWhy)),
			`"f00" is unwell and is not one of the hosts`},
		"locksmithctl does not name the host": {1,
			append(isSick(), shows(strings.ReplaceAll(showsUnwell, "  a  ", "  -  "))),
			"locksmithctl does not show that a is unwell"},
		"locksmithctl does not name the version": {1,
			append(isSick(), shows(strings.ReplaceAll(showsUnwell, newVersion, "-"))),
			"locksmithctl does not show that a is unwell"},
		"locksmithctl does not say what the check said": {1,
			append(isSick(), shows(strings.ReplaceAll(showsUnwell, checkSays, "-"))),
			"locksmithctl does not show that a is unwell"},
		"nothing is shown": {1,
			without(stopsAndGoesOn(), func(e event) bool { return e.Kind == shown }),
			"nobody was shown why the rollout has stopped"},
		"the others do not say why they wait": {1,
			without(stopsAndGoesOn(), func(e event) bool { return e.Text == saysPaused }),
			"the rollout of version 4081.2.0 has not stopped: booted by 1 of the hosts"},
		"the fix is booted by nobody but the unwell host": {1,
			isMended(),
			"1 of 2 hosts were left behind: b (waiting: " + saysPaused + "); version 4081.2.1 does not run on b"},
		"the unwell host does not take the fix": {1,
			isMended()[:len(isMended())-5],
			"the pause for version 4081.2.0 was not lifted by a; version 4081.2.1 does not run on a and b"},
		"the pause is not lifted": {1,
			without(stopsAndGoesOn(), func(e event) bool { return e.Unwell != nil && e.Unwell.Left }),
			"the pause for version 4081.2.0 was not lifted by a"},
		"a host ends on another version": {1,
			append(stopsAndGoesOn()[:len(stopsAndGoesOn())-3], bootsVersion("b", oldVersion), gives("b", semaphore(1)), says("b", saysIdle)),
			"version 4081.2.1 does not run on b"},
		"two down at max one": {1,
			append(isMended()[:len(isMended())-3], goesDown("b")),
			"2 hosts were down at once, a and b, but only 1 may be"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := judgeBad(t, c.max, []string{"a", "b"}, c.history)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %s", err, c.want)
			}
			if r.done() {
				t.Error("it counts as done")
			}
		})
	}
}

func TestPlainLinesShowARolloutThatStopsAndGoesOn(t *testing.T) {
	r := newReferee([]string{"a", "b"}, 1, epoch)
	r.expectStop(newVersion, fixVersion)
	var got strings.Builder
	for _, e := range at(stopsAndGoesOn()...) {
		must.Do(t, r.observe(e))
		if text := line(r, e); text != "" {
			got.WriteString(text + "\n")
		}
	}
	_, lines, _ := strings.Cut(got.String(), "which needs a reboot\n")
	wantText(t, lines, `
   0.90s  a  takes a slot, 0 of 1 left free
   1.00s  b  waits: no slot is free
   1.10s  a  goes down for its reboot, 1 of 2 hosts down
   1.20s  a  boots version 4081.2.0 after 100.0 ms
   1.30s  a  is unwell with version 4081.2.0: `+saysWhy+`
   1.50s  b  waits: paused for version 4081.2.0
   1.60s  the rollout has stopped; locksmithctl status -o wide prints
            Available: 0

            UNWELL  HOSTNAME  VERSION   WHY
            1       a         4081.2.0  `+saysWhy+`
   1.70s  update_engine of all 2 hosts announces version 4081.2.1, which needs a reboot
   1.80s  a  may take version 4081.2.1, on the slot that it has
   1.90s  a  goes down for its reboot, 1 of 2 hosts down, with the slot that it has
   2.00s  a  boots version 4081.2.1 after 100.0 ms
   2.10s  a  releases its slot, 1 of 1 left free
   2.30s  b  takes a slot, 0 of 1 left free, 200.0 ms after its release
   2.40s  b  goes down for its reboot, 1 of 2 hosts down
   2.50s  b  boots version 4081.2.1 after 100.0 ms
   2.60s  b  releases its slot, 1 of 1 left free
`)
	wantText(t, strings.Join(summary(r, epoch.Add(3e9))[1:7], "\n")+"\n", `
2 of 2 hosts rebooted in 3.0 s, in this order:
    1. a  down at 1.10 s for 100.0 ms, booted version 4081.2.0
    2. a  down at 1.90 s for 100.0 ms, booted version 4081.2.1, with the slot that it had
    3. b  down at 2.40 s for 100.0 ms, booted version 4081.2.1, had the slot of another host within 200.0 ms
version 4081.2.0: booted by 1 of 2 hosts, a; at most 1 may
the rollout stood for 200.0 ms until the fix came
`)
}

func TestTableOfARolloutThatHasStopped(t *testing.T) {
	r, _ := judgeBad(t, 1, []string{"a", "b"}, isSick())
	got := strings.Join(table(r, epoch.Add(3e9), 100, 24), "\n") + "\n"
	wantText(t, got, `
locksmith: 2 hosts take a bad update, at most 1 of them down at once   3.0s
slots: 0 free, 1 held by a
hosts: 1 waiting, 1 unwell

HOST  STATE        SINCE  STATUS
a  unwell        1.7s  trying again, the last attempt failed: locksmith-after-reboot.service fail...
b  waiting       2.2s  waiting for a slot: paused for version 4081.2.0, since host a (1) is unwel...
`)
}
