package policy

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestStatusSaysWhatIsWaitedForSinceWhenUntilWhen(t *testing.T) {
	gate := &spans{{t0.Add(24 * time.Hour), t0.Add(25 * time.Hour)}}
	const (
		needed = "reboot needed since Mon 2026-03-02 04:00:01 UTC for version 4081.2.0; "
	)
	for _, c := range []struct {
		name   string
		script []any
		want   string
	}{
		{"starting", []any{1 * second},
			"starting: asking etcd whether this host holds a slot since Mon 2026-03-02 04:00:00 UTC"},
		{"starting, etcd down", []any{1 * second, noAnswer},
			"starting: asking etcd whether this host holds a slot since Mon 2026-03-02 04:00:00 UTC; trying again Mon 2026-03-02 04:00:01 UTC, the last attempt failed: etcd is down"},
		{"starting, reboot pending", []any{1 * second, need},
			needed + "starting: asking etcd whether this host holds a slot since Mon 2026-03-02 04:00:00 UTC"},
		{"starting, update_engine silent", []any{opens, 1 * second, fromNow},
			"a slot is held; waiting for update_engine until Mon 2026-03-02 04:00:10 UTC"},
		{"settling", []any{1 * second, fromAgo, well},
			"giving back the slot that was held at start since Mon 2026-03-02 04:00:01 UTC"},
		{"settling, etcd down", []any{1 * second, fromAgo, well, notGiven},
			"giving back the slot that was held at start since Mon 2026-03-02 04:00:01 UTC; trying again Mon 2026-03-02 04:00:01 UTC, the last attempt failed: etcd is down"},
		{"idle", []any{1 * second, notHeld},
			"idle: no reboot is needed since Mon 2026-03-02 04:00:01 UTC"},
		{"waiting", []any{1 * second, notHeld, need},
			needed + "waiting since Mon 2026-03-02 04:00:01 UTC for the reboot window, which opens Tue 2026-03-03 04:00:00 UTC"},
		{"waiting after a blackout", []any{Reconfigure{Config{Lock: true, Window: &door{by: "a blackout on 2026-03-02"}}}, 1 * second, notHeld, need},
			needed + "waiting since Mon 2026-03-02 04:00:01 UTC for the reboot window, which opens Mon 2026-03-02 10:00:01 UTC, after a blackout on 2026-03-02"},
		{"waiting after a failure", []any{opens, 1 * second, notHeld, need, noSlot},
			needed + "waiting since Mon 2026-03-02 04:00:01 UTC; trying again Mon 2026-03-02 04:00:05 UTC, the last attempt failed: etcd is down"},
		{"locking", []any{opens, 1 * second, notHeld, need, Blocked{By: "held by a, b"}, time.Minute},
			needed + "waiting for a slot since Mon 2026-03-02 04:00:01 UTC: held by a, b"},
		{"locking within a window", []any{1 * second, notHeld, need, 24 * time.Hour, Blocked{By: "held by a"}},
			needed + "waiting for a slot since Tue 2026-03-03 04:00:01 UTC until the reboot window shuts Tue 2026-03-03 05:00:00 UTC: held by a"},
		{"preparing", []any{opens, 1 * second, notHeld, need, got},
			needed + "checking again whether the host may reboot since Mon 2026-03-02 04:00:01 UTC"},
		{"users", []any{opens, 1 * second, notHeld, need, got, crowded, warned, time.Minute},
			needed + "users are logged in (ann, bob) and know since Mon 2026-03-02 04:00:01 UTC; rebooting Mon 2026-03-02 04:05:01 UTC, or once they have left, unless they cancel it with shutdown -c"},
		{"users, being told", []any{opens, 1 * second, notHeld, need, got, crowded},
			needed + "telling the users who are logged in (ann, bob) of the reboot Mon 2026-03-02 04:05:01 UTC"},
		{"users, a deadline", []any{opens, 1 * second, notHeld, Reconfigure{Config{Lock: true, LoginDelay: time.Minute, MaxPostpone: time.Hour}}, need, got, crowded, warned},
			needed + "users are logged in (ann, bob) and know since Mon 2026-03-02 04:00:01 UTC; rebooting Mon 2026-03-02 04:01:01 UTC, or once they have left, unless they cancel it with shutdown -c; users and inhibitors can postpone it until Mon 2026-03-02 05:00:01 UTC"},
		{"held back", []any{opens, 1 * second, notHeld, backup, need},
			needed + "waiting since Mon 2026-03-02 04:00:01 UTC; held back by \"unattended backup\" (rsync, root): block inhibitor"},
		{"calling off", []any{opens, 1 * second, notHeld, need, got, crowded, warned, LookEvery, blockaded},
			needed + "calling off the reboot scheduled with logind since Mon 2026-03-02 04:00:16 UTC: held back by \"unattended backup\" (rsync, root): block inhibitor"},
		{"withdrawn, not yet out", []any{opens, 1 * second, notHeld, need, got, idle},
			"the reboot is not needed any more; checking again whether the host may reboot since Mon 2026-03-02 04:00:01 UTC"},
		{"rebooting", []any{opens, 1 * second, notHeld, need, got, clear},
			needed + "rebooting: logind was asked Mon 2026-03-02 04:00:01 UTC"},
		{"it is not known whether a slot is held", []any{1 * second, unsure, notGiven},
			"giving back the slot that this host may hold since Mon 2026-03-02 04:00:01 UTC; trying again Mon 2026-03-02 04:00:01 UTC, the last attempt failed: etcd is down"},
		{"rebooting, accepted", []any{opens, 1 * second, notHeld, need, got, clear, accepted},
			needed + "rebooting: logind was asked Mon 2026-03-02 04:00:01 UTC, trying again Mon 2026-03-02 04:15:01 UTC"},
		{"rebooting, unknown", []any{opens, 1 * second, notHeld, need, got, clear, silent},
			needed + "rebooting: logind was asked Mon 2026-03-02 04:00:01 UTC, trying again Mon 2026-03-02 04:15:01 UTC (etcd is down)"},
		{"releasing", []any{opens, 1 * second, notHeld, need, got, clear, refused},
			needed + "giving the slot back since Mon 2026-03-02 04:00:01 UTC: the reboot was refused: access denied"},
		{"releasing fails", []any{opens, 1 * second, notHeld, need, got, clear, refused, notGiven},
			needed + "giving the slot back since Mon 2026-03-02 04:00:01 UTC: the reboot was refused: access denied; trying again Mon 2026-03-02 04:00:01 UTC, the last attempt failed: etcd is down"},
		{"left", []any{1 * second, notHeld, stop},
			"stopped; no slot is held"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, true)
			policy := people5m
			policy.Lock, policy.Window = true, gate
			if len(c.script) > 0 && c.script[0] == opens {
				policy.Window = nil
			}
			r.restart(policy).do(c.script...)
			if got := r.m.Status(r.now); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// Local time may jump by an hour, twice a year: only what people read changes.
func TestDaylightSavingChangesOnlyWhatPeopleRead(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatalf("install tzdata: %v", err)
	}
	for _, start := range []time.Time{
		time.Date(2026, 3, 29, 0, 58, 0, 0, time.UTC),  // 01:58 in Berlin; 02:00 becomes 03:00
		time.Date(2026, 10, 25, 0, 58, 0, 0, time.UTC), // 02:58 in Berlin; 03:00 becomes 02:00
	} {
		run := func(loc *time.Location) (moves []Move, naps []time.Duration) {
			r := newRig(t, true)
			r.now = start.In(loc)
			r.restart(Config{Lock: true, Window: &spans{{start, start.Add(time.Hour)}}, LoginDelay: 5 * time.Minute})
			r.do(notHeld, need, got, crowded, warned)
			for r.last.State == Preparing {
				if is(r.m.running, checks) {
					r.do(crowded)
					continue
				}
				naps = append(naps, r.last.Nap)
				r.do(r.last.Nap)
			}
			return r.moves, naps
		}
		moves, naps := run(berlin)
		wantMoves, wantNaps := run(time.UTC)
		if !slices.Equal(moves, wantMoves) || !slices.Equal(naps, wantNaps) {
			t.Errorf("in Berlin %v %v\nin UTC %v %v", moves, naps, wantMoves, wantNaps)
		}
	}
}

// An administrator may change the host's time zone while the daemon runs.
func TestTimesForPeopleAreInTheTimeZoneOfTheMoment(t *testing.T) {
	zone := time.FixedZone("CET", 3600)
	policy := Config{Zone: func() *time.Location { return zone }}
	m := New(policy, Found{}, t0, rand.New(rand.NewPCG(1, 0)))
	for _, name := range []string{"CET", "JST"} {
		zone = time.FixedZone(name, 3600)
		if s := m.Status(t0); !strings.Contains(s, " "+name) || strings.Contains(s, "UTC") {
			t.Errorf("the status is %q, want one in %s", s, name)
		}
	}
}

// The delay is from the announcement to the reboot; logind's own is a little longer.
func TestScheduleSaysWhenAndWhy(t *testing.T) {
	r := newRig(t, true).do(toPreparing...).do(20*second, crowded)
	r.expect(Preparing, schedules, false)
	if want := t0.Add(20*second + 5*time.Minute + Backstop); !r.order.at.Equal(want) {
		t.Errorf("scheduled for %v, want %v", r.order.at, want)
	}
	const want = "System reboot in 5 minutes! locksmithd reboots this host at Mon 2026-03-02 04:05:20 UTC, for version 4081.2.0." +
		" To cancel it, run: shutdown -c; it is tried again 60 minutes later. To go now, log out, or run: systemctl reboot"
	if r.order.message != want {
		t.Errorf("the message is\n%s\nwant\n%s", r.order.message, want)
	}
}

func TestVersionCannotHarmATerminal(t *testing.T) {
	r := newRig(t, true).do(Update{Source: Requester, Pending: true, Version: "1\x1b[2J\nBroadcast\u202e"})
	if text := r.m.message(); strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == '\u202e' }) || !strings.Contains(text, `version 1\x1b[2J\nBroadcast\u202e`) {
		t.Errorf("the message is %q", text)
	}
}

func TestSpokenDurations(t *testing.T) {
	for d, want := range map[time.Duration]string{
		time.Second: "1 second", 90 * time.Second: "90 seconds", time.Minute: "1 minute", 5 * time.Minute: "5 minutes",
	} {
		if got := spoken(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
}
