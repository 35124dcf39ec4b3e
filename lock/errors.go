package lock

import (
	"fmt"
	"strings"
	"time"

	"github.com/locksmithd/locksmith/internal/safetext"
)

// PausedError says that nobody may take a slot now.
type PausedError struct {
	Pause Pause
}

func (e *PausedError) Error() string { return e.Pause.String() }

// String says in one sentence who pauses whom since when, and why.
func (p *Pause) String() string {
	text := "paused"
	if p.All {
		text = "all groups are paused"
	}
	if p.Broken {
		return text + "; what etcd has about the pause cannot be understood"
	}
	if p.By != "" {
		text += " by " + p.By
	}
	if !p.Since.IsZero() {
		text += " since " + p.Since.Local().Format(time.DateTime)
	}
	if !p.Until.IsZero() {
		text += " until " + p.Until.Local().Format(time.DateTime)
	}
	if p.Reason != "" {
		text += ": " + p.Reason
	}
	return text
}

// CloneError says that two hosts have the same machine id, and both want to reboot.
type CloneError struct {
	ID string
	// Self is the host that was refused; Other has the slot, or waits for one.
	Self, Other Record
}

func (e *CloneError) Error() string {
	return fmt.Sprintf("two hosts have the machine id %[1]s: this is %[2]s, but %[3]s has the lock or waits for it; if that is gone or was renamed, run locksmithctl unlock %[1]s, else see machine-id(5)",
		safetext.Clean(e.ID), e.Self.Hostname, e.Other.Hostname)
}

// cloneOf returns a CloneError if the document, of a holder or of one that waits, is certain to be of
// another host than self.
func cloneOf(id string, self Record, document Value) error {
	other, ok := parseRecord(document.Data)
	if !ok || !self.known() || !other.known() || self.Hostname == other.Hostname || self.BootID == other.BootID {
		return nil
	}
	return &CloneError{ID: id, Self: self, Other: other}
}

// known reports whether the hostname tells a host from others.
func (r Record) known() bool {
	return r.Hostname != "" && !strings.HasPrefix(r.Hostname, "localhost")
}
