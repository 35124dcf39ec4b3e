package inventory

import (
	"bytes"
	"encoding/json"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/locksmithd/locksmith/internal/safetext"
)

// Host is the record of a host. Times are by the host's clock, in UTC, to the second; zero where they are not known.
type Host struct {
	ID    string `json:"-"` // the machine id
	Group string `json:"-"` // in whose folder the record is; "" is the default group

	Hostname  string    `json:"hostname"`
	OS        string    `json:"os,omitempty"`         // NAME of os-release(5)
	OSVersion string    `json:"os_version,omitempty"` // VERSION_ID of os-release(5)
	Locksmith string    `json:"locksmith"`            // the version of locksmithd
	Booted    time.Time `json:"booted,omitzero"`
	Updated   time.Time `json:"updated"` // when the record was written

	State State     `json:"state"`
	Since time.Time `json:"since"`         // of the state
	Why   string    `json:"why,omitempty"` // the state, in a sentence of at most about 1 KiB
	// WaitsFor is what holds a reboot back that is needed, in one word: an obstacle as `locksmithctl status -host` names
	// it, such as window or users, or else slot, hooks, turn (when the host begins, at random), news (of a source) or retry.
	WaitsFor string `json:"waits_for,omitempty"`
	Need     *Need  `json:"need,omitempty"` // nil: no reboot is needed
	// NotBefore is the earliest time of that reboot, as far as the host knows one: the end of what holds it back, of the
	// time that it has to be up, of a wait at random, or of that before another attempt. The window counts besides.
	NotBefore time.Time `json:"not_before,omitzero"`
	Hold      *Hold     `json:"hold,omitempty"` // nil: no hold file holds this host

	Window *Window   `json:"window,omitempty"` // nil: reboots may happen at any time
	Opens  time.Time `json:"opens,omitzero"`   // the window that is open, or the next one; zero: always open, or never
	Shuts  time.Time `json:"shuts,omitzero"`   // the same window
	// Room is how long before the window shuts the reboot has to begin, for what is hooked in before it; 0: no time.
	Room time.Duration `json:"room_ns,omitempty"`

	Last *Reboot `json:"last_reboot,omitempty"` // nil: locksmithd has not rebooted this host yet

	Broken bool `json:"-"` // the record cannot be understood
}

// A State says in a word what a host does.
type State string

// The states. Those of package policy are called the same.
const (
	Starting   State = "starting"
	Idle       State = "idle"
	Waiting    State = "waiting"    // a reboot is needed, and something on the host or its window holds it back
	Locking    State = "locking"    // it waits for a slot
	Preparing  State = "preparing"  // it has a slot, and what comes before the reboot goes on
	Rebooting  State = "rebooting"  // logind was asked
	Settling   State = "settling"   // it is up again, and undoes what came before the reboot
	Checking   State = "checking"   // the same, and it is not known yet whether it is well
	Unwell     State = "unwell"     // it is not well after its reboot, and goes on checking
	Releasing  State = "releasing"  // it is about to give its slot back
	Unreadable State = "unreadable" // of a record that is Broken
)

// Need is that a reboot is needed.
type Need struct {
	Version string    `json:"version,omitempty"` // of the update, if known
	Since   time.Time `json:"since"`
	Reasons []string  `json:"reasons,omitempty"` // what needs it
}

// A Hold is that a hold file holds this host.
type Hold struct {
	Until  time.Time `json:"until,omitzero"` // zero: it does not end by itself
	Reason string    `json:"reason,omitempty"`
}

// Window is the settings of a host's reboot window, as they are set; see docs/configuration.md.
type Window struct {
	Start    string `json:"start,omitempty"`
	Length   string `json:"length,omitempty"`
	Zone     string `json:"zone,omitempty"` // the IANA name of the time zone; "" where it is not known
	Blackout string `json:"blackout,omitempty"`
}

// A Reboot is the last one that locksmithd has asked for.
type Reboot struct {
	Version string    `json:"version,omitempty"` // that it was for
	At      time.Time `json:"at"`                // when logind was asked
	// Took is how long the host had its slot, from taking it to giving it back; 0 where that is not known, or not over.
	Took time.Duration `json:"took_ns,omitempty"`
	Well bool          `json:"well"`          // the host has come up, and is well
	Why  string        `json:"why,omitempty"` // it is not well
}

const (
	// maxRecord bounds a record that is parsed, in bytes: more than a host writes at most, and many times what it usually
	// writes.
	maxRecord = 128 << 10
	// maxWhy and maxBlackout bound the longest texts of a record, in bytes: a status may be a list.
	maxWhy      = 1 << 10
	maxBlackout = 4 << 10
	// maxReasons bounds the reasons that are kept of a record.
	maxReasons = 8
	// maxTook is longer than any host keeps a slot, or than anything takes.
	maxTook = 366 * 24 * time.Hour
)

// parse returns the record of a host in a group. Any client of the store may have written it.
func parse(id, group string, data []byte) *Host {
	h := new(Host)
	object := bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("{"))
	if len(data) > maxRecord || !utf8.Valid(data) || !object || json.Unmarshal(data, h) != nil {
		h = &Host{Broken: true, State: Unreadable}
	}
	h.ID, h.Group = id, group
	h.clean()
	return h
}

// clean makes the record safe to show.
func (h *Host) clean() {
	cleanTexts(&h.Hostname, &h.OS, &h.OSVersion, &h.Locksmith, (*string)(&h.State), &h.WaitsFor)
	h.Why = safetext.Cut(h.Why, maxWhy)
	cleanTimes(&h.Booted, &h.Updated, &h.Since, &h.NotBefore, &h.Opens, &h.Shuts)
	h.Room = min(max(h.Room, 0), maxTook)
	if hold := h.Hold; hold != nil {
		cleanTexts(&hold.Reason)
		cleanTimes(&hold.Until)
	}
	if n := h.Need; n != nil {
		n.Reasons = slices.Clone(n.Reasons[:min(len(n.Reasons), maxReasons)]) // others read them, and the array may be much longer
		for i := range n.Reasons {
			cleanTexts(&n.Reasons[i])
		}
		cleanTexts(&n.Version)
		cleanTimes(&n.Since)
	}
	if w := h.Window; w != nil {
		cleanTexts(&w.Start, &w.Length, &w.Zone)
		w.Blackout = safetext.Cut(w.Blackout, maxBlackout)
	}
	if r := h.Last; r != nil {
		cleanTexts(&r.Version, &r.Why)
		cleanTimes(&r.At)
		r.Took = min(max(r.Took, 0), maxTook)
	}
}

func cleanTexts(texts ...*string) {
	for _, text := range texts {
		*text = safetext.Clean(*text)
	}
}

func cleanTimes(times ...*time.Time) {
	for _, t := range times {
		if year := t.UTC().Year(); year < 1 || year >= 9999 { // it cannot be written in every zone
			*t = time.Time{}
		}
		*t = t.UTC().Truncate(time.Second)
	}
}
