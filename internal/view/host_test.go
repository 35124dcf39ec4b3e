package view

import (
	"errors"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/locksmithd/locksmith/internal/hostfacts"
	"github.com/locksmithd/locksmith/test/must"
)

func ago(d time.Duration) uint64 { return uint64(noon.Add(-d).UnixMicro()) }

// heldBack is a host that waits; everything that can be shown of it is.
func heldBack() hostfacts.Host {
	return hostfacts.Host{
		State: "waiting", StateSince: ago(2 * time.Hour), Why: "a reboot is needed", Strategy: "etcd-lock", Group: "lb",
		Status:       "reboot needed since Sat 2027-01-02 09:00:00 UTC for version 1.2.3; waiting",
		RebootNeeded: true, NeededSince: ago(3 * time.Hour), NeededVersion: "1.2.3", NeededBy: []string{"update_engine"},
		NeededReasons: []string{"update_engine"}, Troubles: []string{"the sentinel cannot be read"},
		Gates: []hostfacts.Gate{
			{Name: "update", Answer: "yes"},
			{Name: "window", Answer: "no", Why: "the reboot window, which opens Sat 2027-01-02 13:00:00 UTC"},
			{Name: "inhibitors", Answer: "unknown", Why: "logind\x1b[2J does not say"},
			{Name: "users", Answer: "yes", Why: "users who are logged in (ann) are told before the reboot"},
			{Name: "alerts", Answer: "not asked", Why: "asked once the gates before it say yes"},
		},
		Next: "the reboot window opens", NextAt: ago(-time.Hour), WindowOpens: ago(-time.Hour), WindowShutBy: "a blackout on 2027-01-02",
		HeldBackGate: "window", HeldBackBy: "the reboot window", PostponableUntil: ago(-2 * time.Hour), SlotNeeded: true, SlotHeld: true,
		SlotBlockedBy: "held by web-1", Users: []string{"ann"}, UsersWarned: ago(time.Minute), RebootAt: ago(-time.Minute), RebootFinal: true,
		RebootMode: "a soft reboot instead of a full one", Health: "unwell", HealthVersion: "1.2.2", HealthSince: ago(time.Hour),
		HealthError: "web is down", LastRebootFailed: "not well", LastError: "etcd is down",
		Retries:       []hostfacts.Retry{{At: ago(-time.Second), Error: "no slot"}},
		Undo:          []hostfacts.Undo{{Name: "a slot", Doing: "giving the slot back", RetryAt: ago(-time.Minute), Error: "etcd is down", Advice: "start etcd"}},
		ConfigRefused: "LOCKSMITHD_MAX is not a number",
	}
}

func TestHostInEveryFormat(t *testing.T) {
	for f, name := range map[Format]string{Text: "host.txt", Wide: "host-wide.txt", JSON: "host.json", YAML: "host.yaml"} {
		got, err := f.Host(heldBack(), noon, false)
		must.Do(t, err)
		golden(t, name, got)
	}
	idle := hostfacts.Host{State: "idle", StateSince: ago(time.Hour), Status: "idle: no reboot is needed", Next: "nothing, until a reboot is needed"}
	got, err := Text.Host(idle, noon, false)
	must.Do(t, err)
	golden(t, "host-idle.txt", got)
	got, err = JSON.Host(idle, noon, true)
	must.Do(t, err)
	golden(t, "host-idle.json", got)
}

func TestHostInASentence(t *testing.T) {
	needs := func(change func(*hostfacts.Host)) hostfacts.Host {
		h := hostfacts.Host{State: "waiting", RebootNeeded: true, Gates: []hostfacts.Gate{{Name: "users", Answer: "yes"}}}
		change(&h)
		return h
	}
	for want, h := range map[string]hostfacts.Host{
		"locksmithd ends on this host.":                                            {State: "left"},
		"No reboot of this host is needed.":                                        {State: "idle"},
		"This host reboots now.":                                                   needs(func(h *hostfacts.Host) { h.State = "rebooting" }),
		"This host settles after its start; it may still hold a slot from before.": needs(func(h *hostfacts.Host) { h.State = "settling" }),
		"This host is about to reboot.":                                            needs(func(h *hostfacts.Host) { h.State = "preparing" }),
		"This host is about to reboot; users are told.":                            needs(func(h *hostfacts.Host) { h.State, h.RebootAt = "preparing", 1 }),
		"This host needs a reboot, and asks its gates.":                            needs(func(*hostfacts.Host) {}),
		"This host needs a reboot, which 1 gate holds back: users.":                needs(func(h *hostfacts.Host) { h.Gates[0].Answer = "no" }),
	} {
		if got := hostSentence(h); got != want {
			t.Errorf("%+v: %q, want %q", h, got, want)
		}
	}
}

func TestHostIsWatched(t *testing.T) {
	h := heldBack()
	if got, want := HostLine(h, noon), "Sat 2027-01-02 12:00:00 UTC  "+h.Status+"\n"; got != want {
		t.Errorf("the line is %q, want %q", got, want)
	}
	for want, screen := range map[string][]string{
		"asking locksmithd": HostScreen(nil, nil, noon, 80, 24),
		"OUT OF DATE: locksmithd is not on the system bus":           HostScreen(&h, errors.New("locksmithd is not on the system bus"), noon, 80, 24),
		"This host needs a reboot, which 2 gates hold back: window,": HostScreen(&h, nil, noon, 80, 24),
	} {
		if text := strings.Join(screen, "\n"); !strings.Contains(text, want) || len(screen) > 24 ||
			strings.ContainsFunc(text, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
}
