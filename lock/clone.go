package lock

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/locksmithd/locksmith/internal/safetext"
)

// CloneError says that two hosts have the same machine id, and both want to reboot.
type CloneError struct {
	ID string
	// Self is the host that was refused; Other has the slot, or waits for one.
	Self, Other Record
	Differ      []string // what told them apart: hardware, disk, name, the way to the lock
}

func (e *CloneError) Error() string {
	name := func(r Record) string {
		text := cmp.Or(r.Hostname, "a host without a name")
		if r.Remote {
			text += " (a client of a FleetLock server)"
		}
		return text
	}
	return fmt.Sprintf("two hosts have the machine id %[1]s: this is %[2]s, but %[3]s has the lock or waits for it, "+
		"and they differ in %[4]s; if %[3]s is gone, or is this host by an older name, run locksmithctl unlock %[1]s, "+
		"else give this host an id of its own, see machine-id(5)",
		safetext.Clean(e.ID), name(e.Self), name(e.Other), strings.Join(e.Differ, " and "))
}

// cloneOf returns a CloneError if the document, of a holder or of a queue entry, is of another host
// than self. A document that cannot be understood does not count as another host's.
func (l *Lock) cloneOf(id string, self Record, document Value) error {
	other, ok := parseRecord(document.Data)
	if !ok {
		return nil
	}
	// A remote client is known by its id alone. It has no part in the slot of a host that asks for itself, nor that host
	// in the client's. (Who has no boot is an administrator.)
	if self.Remote != other.Remote && cmp.Or(self.BootID, other.BootID) != "" {
		return &CloneError{ID: id, Self: self, Other: other, Differ: []string{"the way to the lock"}}
	}
	if self.Remote || other.Remote {
		return nil
	}
	c := compare(self, l.disk, other)
	if c.same() {
		return nil
	}
	return &CloneError{ID: id, Self: self, Other: other, Differ: c.differ()}
}

// A match is whether a fact about two hosts is the same.
type match int

const (
	unknown match = iota // at least one of the hosts does not say
	equal
	differs
)

// matching compares texts that are "" where they are not known.
func matching(a, b string) match {
	switch {
	case a == "" || b == "":
		return unknown
	case a == b:
		return equal
	}
	return differs
}

// comparison is what is known about two hosts with one machine id.
type comparison struct {
	sameBoot             bool
	hardware, disk, name match
}

// compare compares this host, which has tokens of earlier boots on its disk, with the host that wrote a
// record. A token of this boot is not needed: the boot id identifies a record of this boot.
func compare(self Record, disk []string, other Record) comparison {
	c := comparison{
		sameBoot: self.BootID == other.BootID,
		hardware: matching(self.Hardware, other.Hardware),
		name:     matching(name(self), name(other)),
	}
	switch {
	case other.Token == "" || len(disk) == 0:
	case slices.Contains(disk, other.Token):
		c.disk = equal
	default:
		c.disk = differs
	}
	return c
}

// name returns the hostname, or "" where it does not distinguish hosts.
func name(r Record) string {
	if strings.HasPrefix(r.Hostname, "localhost") {
		return ""
	}
	return r.Hostname
}

// same reports whether both are one host; docs/host-identity.md has the reasons. Disk and hardware outlive a new
// name. Where they contradict each other, or say too little, the names decide, and where the names say
// nothing there is no reason to stop a fleet.
func (c comparison) same() bool {
	switch {
	case c.sameBoot,
		c.hardware == equal && c.disk != differs,
		c.hardware == unknown && c.disk == equal:
		return true
	case c.hardware == differs && c.disk != equal:
		return false
	}
	return c.name != differs
}

func (c comparison) differ() (names []string) {
	for _, fact := range []struct {
		name string
		is   match
	}{{"hardware", c.hardware}, {"disk", c.disk}, {"name", c.name}} {
		if fact.is == differs {
			names = append(names, fact.name)
		}
	}
	return names
}
