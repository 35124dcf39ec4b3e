package main

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/locksmithd/locksmith/test/must"
)

func wantText(t *testing.T, got, want string) {
	t.Helper()
	want = strings.TrimPrefix(want, "\n")
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// observed returns a referee that has observed a history.
func observed(t *testing.T, max int, hosts []string, history []event) *referee {
	t.Helper()
	r := newReferee(hosts, max, epoch)
	for _, e := range at(history...) {
		must.Do(t, r.observe(e))
	}
	return r
}

// middle is a history of three hosts in three different states.
func middle() []event {
	return append(beginning(1, "host-1", "host-2", "host-3"),
		takes("host-1", semaphore(1, "host-1")),
		says("host-3", saysWaiting),
		goesDown("host-1"),
		boots("host-1"),
		gives("host-1", semaphore(1)),
		takes("host-2", semaphore(1, "host-2")),
		says("host-1", saysIdle),
		goesDown("host-2"))
}

func TestTableOfAFleet(t *testing.T) {
	r := observed(t, 1, []string{"host-1", "host-2", "host-3"}, middle())
	got := strings.Join(table(r, epoch.Add(65*time.Second), 80, 24), "\n") + "\n"
	wantText(t, got, `
locksmith: 3 hosts take an update, at most 1 of them down at once   65.0s
slots: 0 free, 1 held by host-2
hosts: 1 waiting, 1 down, 1 updated

HOST    STATE        SINCE  STATUS
host-1  updated      63.3s  idle: no reboot is needed since 04:00:00
host-2  down         63.2s
host-3  waiting      64.0s  waiting for a slot since 04:00:01: no slot is fre...
`)
}

func TestTableOfAFleetOnAWideTerminal(t *testing.T) {
	r := observed(t, 1, []string{"host-1", "host-2", "host-3"}, middle())
	got := table(r, epoch.Add(65*time.Second), 220, 24)
	want := "host-3  waiting      64.0s  reboot needed since 04:00:01 for version 4081.2.0; waiting for a slot since 04:00:01: no slot is free: max is 1, held by 00000000000000000000000000000001"
	if last := got[len(got)-1]; last != want {
		t.Errorf("got\n%s\nwant\n%s", last, want)
	}
}

func TestTableOnAShortTerminalShowsTheBusyHosts(t *testing.T) {
	r := observed(t, 1, []string{"host-1", "host-2", "host-3"}, middle())
	got := strings.Join(table(r, epoch.Add(2*time.Second), 30, 7), "\n") + "\n"
	wantText(t, got, `
locksmith: 3 hosts take an ...
slots: 0 free, 1 held by ho...
hosts: 1 waiting, 1 down, 1...

HOST    STATE        SINCE ...
host-2  down          0.2s
and 2 more
`)
}

func TestTableFitsEveryTerminal(t *testing.T) {
	var names []string
	for i := range 50 {
		names = append(names, fmt.Sprintf("host-%02d", i+1))
	}
	history := beginning(3, names...)
	for _, name := range names {
		history = append(history, says(name, saysWaiting+" größer \x1b[2J\n"))
	}
	r := observed(t, 3, names, history)
	for width := range 120 {
		for height := range 60 {
			lines := table(r, epoch, width, height)
			if len(lines) > max(1, height) {
				t.Fatalf("%d lines on a terminal of %dx%d", len(lines), width, height)
			}
			for _, l := range lines {
				if utf8.RuneCountInString(l) > width || strings.ContainsAny(l, "\x1b\n\r\t") {
					t.Fatalf("%q on a terminal of %dx%d", l, width, height)
				}
			}
		}
	}
}

func TestPlainLinesShowTheEvents(t *testing.T) {
	r := newReferee([]string{"a", "b"}, 1, epoch)
	var got strings.Builder
	for _, e := range at(good()...) {
		must.Do(t, r.observe(e))
		if text := line(r, e); text != "" {
			got.WriteString(text + "\n")
		}
	}
	wantText(t, got.String(), `
   0.10s  etcd runs at http://127.0.0.2:2379
   0.20s  a  locksmithd starts
   0.30s  a  idle: no reboot is needed since Thu 2026-03-05 04:00:00 UTC
   0.40s  b  locksmithd starts
   0.50s  b  idle: no reboot is needed since Thu 2026-03-05 04:00:00 UTC
   0.70s  locksmithctl set-max prints Old: 1, New: 1
   0.80s  update_engine of all 2 hosts announces version 4081.2.0, which needs a reboot
   0.90s  a  takes a slot, 0 of 1 left free
   1.00s  b  waits: no slot is free
   1.10s  a  goes down for its reboot, 1 of 2 hosts down
   1.20s  a  boots after 100.0 ms
   1.30s  a  releases its slot, 1 of 1 left free
   1.40s  b  takes a slot, 0 of 1 left free, 100.0 ms after its release
   1.60s  b  goes down for its reboot, 1 of 2 hosts down
   1.70s  b  boots after 100.0 ms
   1.80s  b  releases its slot, 1 of 1 left free
`)
}

func TestSummaryShowsTheRun(t *testing.T) {
	r := observed(t, 1, []string{"a", "b"}, good())
	wantText(t, strings.Join(summary(r, epoch.Add(2*time.Second)), "\n")+"\n", `

2 of 2 hosts rebooted in 2.0 s, in this order:
    1. a  down at 1.10 s for 100.0 ms
    2. b  down at 1.60 s for 100.0 ms, had the slot of another host within 100.0 ms
hosts down at once: at most 1, 1 allowed
slots held at once: at most 1
from a release to the next host's slot: 100.0 ms at best, 100.0 ms median, 100.0 ms at worst
`)
}

func TestSummaryOfARunThatFailedShowsItsProgress(t *testing.T) {
	r := observed(t, 1, []string{"a", "b"}, good()[:len(good())-3])
	got := strings.Join(summary(r, epoch.Add(2*time.Second)), "\n")
	for _, want := range []string{"1 of 2 hosts rebooted in 2.0 s", "    2. b  down at 1.60 s, had"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
}
