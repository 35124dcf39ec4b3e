package plan_test

import (
	"errors"
	"fmt"
	"time"

	"github.com/locksmithd/locksmith/internal/fleet"
	"github.com/locksmithd/locksmith/internal/inventory"
	"github.com/locksmithd/locksmith/internal/plan"
	"github.com/locksmithd/locksmith/lock"
)

var noon = time.Date(2027, 1, 2, 12, 0, 0, 0, time.UTC)

func at(minutes int) time.Time { return noon.Add(time.Duration(minutes) * time.Minute) }

const version = "4230.2.1"

// needs is a host that needs a reboot, and took so many minutes for the last one; 0: that is not known.
func needs(n, minutes int) fleet.Host {
	h := fleet.Host{Host: &inventory.Host{ID: fmt.Sprintf("%05d", n), Hostname: fmt.Sprintf("web-%05d", n), State: "waiting", Updated: noon}}
	h.Need = &inventory.Need{Version: version, Since: noon.Add(-time.Hour)}
	if minutes > 0 {
		h.Last = &inventory.Reboot{Version: "4152.2.0", At: noon.AddDate(0, -1, 0), Took: time.Duration(minutes) * time.Minute, Well: true}
	}
	return h
}

// queued is the same in the queue.
func queued(n, minutes int) fleet.Host {
	h := needs(n, minutes)
	h.State, h.WaitsFor, h.Place = "locking", "slot", n
	return h
}

// holding is the same with a slot since so many minutes.
func holding(n, minutes, since int) fleet.Host {
	h := needs(n, minutes)
	h.State = fleet.Holding
	h.Slot = &lock.HolderInfo{ID: h.ID, Record: lock.Record{By: "locksmithd", Version: version, Since: at(-since)}}
	return h
}

// with changes a host.
func with(h fleet.Host, change func(*fleet.Host)) fleet.Host {
	record := *h.Host
	h.Host = &record
	change(&h)
	return h
}

// group is a group with these hosts.
func group(max int, hosts ...fleet.Host) fleet.Group {
	g := fleet.Group{Hosts: hosts}
	g.Exists, g.Semaphore.Max = true, max
	for _, h := range hosts {
		if h.Slot != nil {
			g.Holders = append(g.Holders, *h.Slot)
		}
		if h.Place > 0 {
			g.Queue = append(g.Queue, lock.QueueEntry{ID: h.ID, Hostname: h.Hostname, Version: h.Need.Version})
		}
	}
	g.Semaphore.Free = max - len(g.Holders)
	return g
}

// daily opens every day at a minute after noon, for some minutes; within the first days that are counted from noon.
type daily struct{ opens, minutes int }

func (d daily) Next(t time.Time) (start, end time.Time) {
	for start = at(d.opens).AddDate(0, 0, -1); ; start = start.AddDate(0, 0, 1) {
		if end = start.Add(time.Duration(d.minutes) * time.Minute); end.After(t) {
			return start, end
		}
	}
}

type never struct{}

func (never) Next(t time.Time) (start, end time.Time) {
	return t.AddDate(100, 0, 0), t.AddDate(100, 0, 1)
}

// windows are known by their starts.
var windows = map[string]plan.Window{"evening": daily{360, 60}, "now": daily{-30, 60}, "short": daily{60, 5}, "never": never{}}

var options = plan.Options{Window: func(w inventory.Window) (plan.Window, error) {
	if known := windows[w.Start]; known != nil {
		return known, nil
	}
	return nil, errors.New("not known")
}}

// in gives a host a window.
func in(window string, h fleet.Host) fleet.Host {
	return with(h, func(h *fleet.Host) { h.Window = &inventory.Window{Start: window, Length: "1h", Zone: "UTC"} })
}
