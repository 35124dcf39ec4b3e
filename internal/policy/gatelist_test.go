package policy

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// listed checks the list of the gates after a step: a reboot begins only when each of them says yes, and a host that
// waits does so because of one that does not.
func (w *world) listed(d decision) {
	all := w.m.Snapshot(w.now).Gates
	var names []ObstacleKind
	var closed []Gate
	for _, g := range all {
		names = append(names, g.Name)
		if g.Answer != Yes {
			closed = append(closed, g)
		}
		if (g.Answer == No || g.Answer == Unknown || g.Answer == NotAsked) == (g.Answer == Yes) || g.Answer != Yes && g.Why == "" {
			w.fail("the gate %+v does not say why", g)
		}
	}
	if want := gateNames(); !slices.Equal(names, want) {
		w.fail("the gates are %v, want %v", names, want)
		return
	}
	beforeSlot := slices.DeleteFunc(slices.Clone(closed), func(g Gate) bool { return g.Name == SlotGate })
	switch {
	case d.Start == reboots && len(closed) > 0:
		w.fail("a reboot begins, and the gates say %+v", closed)
	case d.Start == locks && len(beforeSlot) > 0:
		w.fail("a slot is waited for, and the gates say %+v", beforeSlot)
	case d.State == Waiting && len(beforeSlot) == 0 && !w.m.looking && !w.m.gates.asking:
		w.fail("the host waits, and every gate says yes")
	case d.State == Idle && closed[0].Name != NeedGate:
		w.fail("the host is idle, and the gates say %+v", closed)
	}
	if d.Start == reboots {
		w.seen["reboot with every gate open"]++
	}
}

// gatesText returns the gates that do not simply say yes, a line each.
func (r *rig) gatesText() string {
	var lines []string
	for _, g := range r.m.Snapshot(r.now).Gates {
		if g.Answer != Yes || g.Why != "" {
			lines = append(lines, strings.TrimSpace(fmt.Sprintf("%s: %s %s", g.Name, g.Answer, g.Why)))
		}
	}
	return strings.Join(lines, "\n")
}

func TestGatesSayWhyTheHostHasNotRebooted(t *testing.T) {
	const (
		open    = "window: yes open until Mon 2026-03-02 05:00:00 UTC\n"
		later   = " not asked asked once the gates before it say yes\n"
		noSlot  = "slot: not asked asked once the gates before it say yes"
		atFirst = "hold:" + later + "shutdown:" + later + "inhibitors:" + later + "packages:" + later + "users:" + later
		asked   = "attempts:" + later + "may-reboot:" + later + "alerts:" + later + "room:" + later
	)
	unneeded := ""
	for _, name := range gateNames()[1:] {
		unneeded += "\n" + string(name) + ": not asked asked once a reboot is needed"
	}
	for _, c := range []struct {
		name   string
		script []any
		want   string
	}{
		{"starting", nil, "update: unknown not every source has said yet whether a reboot is needed" + unneeded},
		{"idle", []any{notHeld}, "update: no no reboot is needed" + unneeded},
		{"shut window", []any{notHeld, shuts, need},
			"window: no the reboot window, which opens Mon 2026-03-02 10:00:00 UTC\n" + atFirst + asked + noSlot},
		{"inhibitor", []any{notHeld, backup, need},
			open + `inhibitors: no "unattended backup" (rsync, root): block inhibitor` + "\n" + asked + noSlot},
		{"hold and users", []any{notHeld, Local{Holds: []Hold{{File: "/etc/locksmith/hold"}}, Users: []string{"ann"}}, need},
			open + "hold: no the file /etc/locksmith/hold; \"locksmithctl unhold\" ends that\n" +
				"users: yes users who are logged in (ann) are told before the reboot\n" + asked + noSlot},
		{"logind is silent", []any{notHeld, errRefused, need}, open + func() (text string) {
			for _, name := range []string{"hold", "shutdown", "inhibitors", "packages", "users"} {
				text += name + ": unknown logind, which does not say who is at work on this host: access denied\n"
			}
			return text
		}() + asked + noSlot},
		{"unclear", []any{notHeld, Local{Unclear: errRefused}, need}, open +
			"inhibitors: unknown logind, which does not say who is at work on this host: access denied\n" +
			"users: unknown logind, which does not say who is at work on this host: access denied\n" + asked + noSlot},
		{"a script says no", []any{notHeld, gatesSay{Obstacle: &Obstacle{MayReboot, "may-reboot.d: not now"}}, need},
			open + "may-reboot: no may-reboot.d: not now\nalerts:" + later + "room:" + later + noSlot},
		{"history cannot be read", []any{notHeld, gatesSay{Obstacle: &Obstacle{Unrecorded, "earlier reboots: no access"}}, need},
			open + "attempts: unknown earlier reboots: no access\nmay-reboot:" + later + "alerts:" + later + "room:" + later + noSlot},
		{"hooks are not known", []any{notHeld, gatesSay{Obstacle: &Obstacle{Unclear, "what may be hooked in"}}, need},
			open + "room: unknown what may be hooked in\n" + noSlot},
		{"an old answer", []any{notHeld, gatesSay{Obstacle: &Obstacle{Alerts, "alerts"}}, need, shuts, 10 * time.Minute},
			"window: no the reboot window, which opens Mon 2026-03-02 10:10:00 UTC\n" +
				strings.ReplaceAll(atFirst+asked, onceOthers, tooOld) + noSlot},
		{"in the queue", []any{notHeld, need, Blocked{By: "held by db-1"}}, open + "slot: no waiting for a slot: held by db-1"},
		{"preparing", []any{notHeld, need, got}, open + "slot: yes this host holds a slot"},
		{"undoing", []any{notHeld, need, got, unchecked, notGiven},
			open + "retry: no trying again Mon 2026-03-02 04:00:04 UTC, the last attempt failed: could not check whether the host may reboot: etcd is down\n" +
				"undo: no giving the slot back\n" + noSlot},
		{"rebooting", []any{notHeld, need, got, clear}, open + "slot: yes this host holds a slot"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := newRig(t, true).do(c.script...).gatesText(); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}
