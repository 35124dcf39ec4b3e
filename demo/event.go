package main

import (
	"time"

	"github.com/locksmithd/locksmith/lock"
)

// kind says what an event tells.
type kind int

const (
	etcdRuns  kind = iota // Text: its endpoint
	started               // the host's locksmithd runs
	status                // Text: what systemctl status shows of the host now
	maxSet                // Text: what locksmithctl printed
	announced             // Text: the version; every host is told right after it
	slots                 // the semaphore is there, or its max has changed
	took                  // the host is a holder now
	gave                  // the host is no holder any more
	down                  // the host goes down because logind was asked to reboot it
	up                    // the host boots; its locksmithd starts right after it
	broke                 // Err: something that must not fail did
)

// event is one thing that happened. It comes after all that caused it: down and
// up of a host come after all that had become of the semaphore until then.
type event struct {
	Kind kind
	At   time.Time
	Host string // its name; for took and gave of a stranger the id
	Text string
	Err  error

	Semaphore lock.Semaphore // after it, for slots, took and gave
}

// changes tells apart what one change of the semaphore did. name gives holders
// the names of their hosts.
func changes(before, after lock.Semaphore, name func(id string) string) []event {
	var events []event
	if before.Max != after.Max {
		events = append(events, event{Kind: slots, Semaphore: after})
	}
	for _, id := range before.Holders {
		if !after.Holds(id) {
			events = append(events, event{Kind: gave, Host: name(id), Semaphore: after})
		}
	}
	for _, id := range after.Holders {
		if !before.Holds(id) {
			events = append(events, event{Kind: took, Host: name(id), Semaphore: after})
		}
	}
	return events
}
