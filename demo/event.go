package main

import (
	"time"

	"github.com/locksmithd/locksmith/lock"
)

// kind is the kind of an event.
type kind int

const (
	etcdRuns  kind = iota // Text: its endpoint
	started               // the host's locksmithd runs
	status                // Text: what systemctl status shows of the host now
	maxSet                // Text: what locksmithctl printed
	announced             // Text: the version; every update_engine announces it right after
	slots                 // the semaphore exists now, or its max has changed
	took                  // the host has become a holder
	released              // the host is no longer a holder
	down                  // the host goes down because logind was asked to reboot it
	up                    // Text: the version that the host boots; its locksmithd starts right after it
	unwell                // the host has said in etcd that it is unwell, or changed that: Unwell
	shown                 // Text: what locksmithctl status prints, once the rollout has stopped
	broke                 // Err: something failed that must not
)

// event is one thing that happened. It comes after its causes: down and up of a host come after all changes of the
// semaphore until then.
type event struct {
	Kind kind
	At   time.Time
	Host string // its name; for took and released of a stranger the id
	Text string
	Err  error

	Semaphore lock.Semaphore   // after the event, for slots, took and released
	Unwell    *lock.UnwellHost // nil: the host says it no more
}

// changes returns the events for one change of the semaphore. The function name returns the host name of a holder.
func changes(before, after lock.Semaphore, name func(id string) string) []event {
	var events []event
	if before.Max != after.Max {
		events = append(events, event{Kind: slots, Semaphore: after})
	}
	for _, id := range before.Holders {
		if !after.Holds(id) {
			events = append(events, event{Kind: released, Host: name(id), Semaphore: after})
		}
	}
	for _, id := range after.Holders {
		if !before.Holds(id) {
			events = append(events, event{Kind: took, Host: name(id), Semaphore: after})
		}
	}
	return events
}
