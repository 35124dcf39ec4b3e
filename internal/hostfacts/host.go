// Package hostfacts is the state of a host as other programs see it: the facts of the policy's snapshot, in the types that
// a bus or a document has.
//
// It guarantees that every text is bounded and has nothing that a terminal acts upon, whoever has chosen it, and that
// every list is bounded. It does no I/O.
package hostfacts

import (
	"time"

	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/internal/safetext"
)

// Host is the state of a host: each field is a property, of the type that D-Bus has for it. Times are microseconds
// since 1970-01-01 UTC, by this host's clock; 0 is a time that is not known or does not apply, "" a text that does not.
type Host struct {
	State      string // starting, settling, idle, waiting, locking, preparing, rebooting, releasing or left
	StateSince uint64 // time
	Why        string // the reason for this state
	Status     string // the line that systemctl status shows
	Strategy   string // REBOOT_STRATEGY that is in force
	Group      string // LOCKSMITHD_GROUP; "" for the default group

	RebootNeeded  bool
	NeededSince   uint64   // time since when a reboot is needed
	NeededVersion string   // for which it is needed
	NeededBy      []string // who says that it is needed
	NeededReasons []string // in their words, or else their names
	Troubles      []string // why sources do not say whether a reboot is needed

	Gates  []Gate // every gate, in the order in which they count
	Next   string // what comes next
	NextAt uint64 // time

	WindowOpens      uint64 // time; 0 while it is open, or does not matter
	WindowShutBy     string // what makes it open so late, such as a blackout
	WindowShuts      uint64 // time until which a slot is waited for
	Begins           uint64 // time, at random, at which this host begins
	HeldBackGate     string // the gate that holds the reboot back on this host
	HeldBackBy       string
	PostponableUntil uint64 // time until which people can hold the reboot back

	SlotNeeded    bool
	SlotHeld      bool   // this host holds a slot, or may do so
	SlotBlockedBy string // whom or what the wait for a slot is for

	Users       []string // who are logged in, and delay the reboot
	UsersWarned uint64   // time at which they were told; 0 while they are being told
	RebootAt    uint64   // time at which the host reboots at the latest, with users logged in
	RebootFinal bool     // users cannot cancel it
	RebootMode  string   // what the reboot is and why; "" for a full one
	GiveUpAt    uint64   // time at which a reboot that did not come is tried again

	DrainUntil uint64 // time that what runs before a reboot has

	Health           string // of the host after its reboot: "", checking, well or unwell
	HealthVersion    string // for which it rebooted
	HealthSince      uint64 // time since when it is checked
	HealthUntil      uint64 // time from which it counts as unwell, or at which a host that is well gives its slot back
	HealthError      string // what is wrong
	LastRebootFailed string // why the host is not well, though the checks are over

	LastError     string  // that did not stop the attempt
	Retries       []Retry // what failed and is tried again
	Undo          []Undo  // what is undone, the next one first
	ConfigRefused string  // why the last reload was refused: the settings before it are in force
}

// Gate is one condition of a reboot.
type Gate struct {
	Name   string // see docs/dbus.md
	Answer string // yes, no, not asked, or unknown
	Why    string // for people
}

// Retry is something that failed.
type Retry struct {
	At    uint64 // time at which it is tried again; 0: now
	Error string
}

// Undo is something that an attempt has left behind.
type Undo struct {
	Name    string
	Doing   string // what it takes to undo it
	Settles uint64 // time until which logind may carry out a call that it has not answered
	RetryAt uint64 // time at which it is tried again
	Error   string // why it could not be undone
	Advice  string
}

// A reader takes 256 KiB at most: see package systemd.
const (
	maxText  = 2000 // bytes of a text
	maxList  = 30   // entries of a list
	maxEntry = 400  // bytes of a text in one
	maxWhy   = 1000 // bytes of a gate's reason
)

func entry(s string) string { return safetext.Cut(s, maxEntry) }

func first[T any](all []T) []T { return all[:min(len(all), maxList)] }

// Text returns a text as a Host has it.
func Text(s string) string { return safetext.Cut(s, maxText) }

func texts(all []string) []string {
	out := []string{}
	for _, s := range first(all) {
		out = append(out, entry(s))
	}
	return out
}

func micros(t time.Time) uint64 {
	if t.Before(time.UnixMicro(0)) {
		return 0
	}
	return uint64(t.UnixMicro())
}

// Time returns the time that a property has, the zero one for none.
func Time(micros uint64) time.Time {
	if micros == 0 || micros > 1<<62 {
		return time.Time{}
	}
	return time.UnixMicro(int64(micros))
}

// Of returns the state that a snapshot has, and its status line. Strategy, Group and ConfigRefused are not in it.
func Of(s policy.Snapshot, line string) Host {
	next := s.Next()
	h := Host{
		State: s.State.String(), StateSince: micros(s.Since), Why: Text(s.Why), Status: Text(line),
		RebootNeeded: s.Need.Sources != nil, NeededSince: micros(s.Need.Since), NeededVersion: Text(s.Need.Version),
		NeededBy: texts(s.Need.Sources), NeededReasons: texts(s.Need.Reasons), Troubles: texts(s.Troubles),
		Gates: []Gate{}, Next: Text(next.What), NextAt: micros(next.At),
		WindowOpens: micros(s.Opens), WindowShutBy: Text(s.ShutBy), WindowShuts: micros(s.Shuts), Begins: micros(s.Begins),
		PostponableUntil: micros(s.Postponable),
		SlotNeeded:       s.Lock, SlotHeld: s.Holds, SlotBlockedBy: Text(s.BlockedBy),
		Users: texts(s.Users), UsersWarned: micros(s.WarnedAt), RebootAt: micros(s.RebootAt), RebootFinal: s.Final,
		RebootMode: Text(s.How.Text), GiveUpAt: micros(s.GiveUp), DrainUntil: micros(s.DrainUntil),
		LastRebootFailed: Text(s.Failed), LastError: Text(s.Error), Retries: []Retry{}, Undo: []Undo{},
	}
	if o := s.HeldBack; o != nil {
		h.HeldBackGate, h.HeldBackBy = entry(string(o.Kind)), Text(o.Text)
	}
	for _, g := range first(s.Gates) {
		h.Gates = append(h.Gates, Gate{entry(string(g.Name)), entry(string(g.Answer)), safetext.Cut(g.Why, maxWhy)})
	}
	for _, r := range first(s.Retries) {
		h.Retries = append(h.Retries, Retry{micros(r.At), entry(r.Error)})
	}
	for _, u := range first(s.Undo) {
		h.Undo = append(h.Undo, Undo{
			Name: entry(u.Name), Doing: entry(u.Doing), Settles: micros(u.Settles),
			RetryAt: micros(u.Retry.At), Error: entry(u.Retry.Error), Advice: entry(u.Advice),
		})
	}
	if f := s.Health; f != nil {
		h.Health, h.HealthVersion, h.HealthSince, h.HealthUntil = "checking", Text(f.Version), micros(f.Since), micros(f.Until)
		switch {
		case !f.Releases.IsZero():
			h.Health, h.HealthUntil = "well", micros(f.Releases)
		case f.Unwell:
			h.Health = "unwell"
		}
		h.HealthError = Text(f.Retry.Error)
	}
	return h
}
