package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/locksmithd/locksmith/lock"
)

// state is the progress of a host.
type state int

const (
	starting state = iota
	idle
	waiting   // the update is announced
	rebooting // holds a slot and is still up
	isDown
	booting // until it has released its slot
	sick    // it has said that it is unwell
	updated
)

func (s state) String() string {
	return [...]string{"starting", "idle", "waiting", "rebooting", "down", "booting", "unwell", "updated"}[s]
}

// host is the referee's knowledge of one host.
type host struct {
	name   string
	state  state
	since  time.Time // when state began
	status string    // in systemctl status; "" while there is none

	idle     bool // by the status
	holds    bool
	kept     bool          // what it holds is from before its last reboot
	queued   time.Time     // when its status first said that no slot is free
	paused   time.Time     // when it first said that it waits because others are unwell
	last     *reboot       // nil before its first
	handover time.Duration // from another host's release to its own slot; 0 if a slot was free
}

// reboot is one reboot of a host.
type reboot struct {
	host     *host
	wanted   string // the version that was announced when it went down
	version  string // that it booted
	down     time.Time
	up       time.Time     // zero before the end
	handover time.Duration // that of the host, if it took a slot for this reboot
	kept     bool          // it had its slot from the reboot before
}

// referee follows a fleet through one update by its events alone, and finds violations. It does no I/O and has no
// clock.
type referee struct {
	start     time.Time
	max       int // hosts that may be down at once
	hosts     []*host
	byName    map[string]*host
	version   string // that is announced; "" before
	semaphore lock.Semaphore
	halt      *halt // nil: no rollout has to stop

	reboots   []*reboot       // in the order in which they went down
	mostDown  int             // hosts down at once
	mostHeld  int             // slots held at once
	freed     []time.Time     // releases of slots that no other host has taken yet
	handovers []time.Duration // from each release to the took that it made possible
}

func newReferee(names []string, max int, now time.Time) *referee {
	r := &referee{start: now, max: max, byName: map[string]*host{}}
	for _, name := range names {
		h := &host{name: name, since: now}
		r.hosts = append(r.hosts, h)
		r.byName[name] = h
	}
	return r
}

// observe processes the next event. The error is a sentence that describes a violation.
func (r *referee) observe(e event) error {
	err := r.apply(e)
	if r.halt != nil && err == nil {
		err = r.halt.observe(r, e)
	}
	for _, h := range r.hosts {
		if now := r.stateOf(h); now != h.state {
			h.state, h.since = now, e.At
		}
	}
	return err
}

func (r *referee) apply(e event) error {
	h := r.byName[e.Host]
	switch e.Kind {
	case status:
		h.status = e.Text
		h.idle = strings.HasPrefix(e.Text, "idle: ")
		if h.queued.IsZero() && strings.Contains(e.Text, "no slot is free") {
			h.queued = e.At
		}
	case announced:
		r.version = e.Text
	case slots:
		r.semaphore = e.Semaphore
	case took:
		return r.took(h, e)
	case released:
		r.semaphore = e.Semaphore
		// While other slots are free, no host waits for this one.
		if e.Semaphore.Free == len(r.freed)+1 {
			r.freed = append(r.freed, e.At)
		}
		if h != nil {
			h.holds = false
			if isDownNow(h) {
				return fmt.Errorf("%s lost its slot while it was down", h.name)
			}
		}
	case down:
		return r.down(h, e)
	case up:
		h.last.up, h.last.version = e.At, e.Text
		h.kept = h.holds
	case broke:
		if h != nil {
			return fmt.Errorf("%s: %w", h.name, e.Err)
		}
		return e.Err
	}
	return nil
}

func (r *referee) took(h *host, e event) error {
	r.semaphore = e.Semaphore
	held := len(e.Semaphore.Holders)
	r.mostHeld = max(r.mostHeld, held)
	if h == nil {
		return fmt.Errorf("%q took a slot and is not one of the hosts", e.Host)
	}
	h.holds, h.kept = true, false
	if e.Semaphore.Free < len(r.freed) {
		h.handover = e.At.Sub(r.freed[0])
		r.freed = r.freed[1:]
		r.handovers = append(r.handovers, h.handover)
	}
	if held > r.max {
		return fmt.Errorf("%d slots were held at once, by %s, but only %d may be", held, r.names(func(h *host) bool { return h.holds }), r.max)
	}
	return nil
}

func (r *referee) down(h *host, e event) error {
	again := h.last != nil && h.last.wanted == r.version
	h.last = &reboot{host: h, wanted: r.version, down: e.At, handover: h.handover, kept: h.kept}
	h.status, h.idle, h.handover = "", false, 0
	r.reboots = append(r.reboots, h.last)
	now := r.count(isDownNow)
	r.mostDown = max(r.mostDown, now)
	switch {
	case now > r.max:
		return fmt.Errorf("%d hosts were down at once, %s, but only %d may be", now, r.names(isDownNow), r.max)
	case r.version == "":
		return fmt.Errorf("%s rebooted without an update", h.name)
	case again:
		return fmt.Errorf("%s rebooted twice for one update", h.name)
	case !h.holds:
		return fmt.Errorf("%s rebooted without holding a slot", h.name)
	}
	return nil
}

func isDownNow(h *host) bool { return h.last != nil && h.last.up.IsZero() }

// runs reports whether a host is up, and has booted a version.
func runs(h *host, version string) bool {
	return h.last != nil && !h.last.up.IsZero() && h.last.version == version
}

func (r *referee) stateOf(h *host) state {
	switch {
	case isDownNow(h):
		return isDown
	case r.halt != nil && r.halt.pausing(h):
		return sick
	case runs(h, r.version) && (h.holds || !h.idle):
		return booting
	case runs(h, r.version):
		return updated
	case h.holds:
		return rebooting
	case r.version != "":
		return waiting
	case h.idle:
		return idle
	}
	return starting
}

// all reports whether every host is in a state.
func (r *referee) all(s state) bool { return r.count(in(s)) == len(r.hosts) }

func in(s state) func(*host) bool { return func(h *host) bool { return h.state == s } }

func (r *referee) count(is func(*host) bool) int {
	n := 0
	for _, h := range r.hosts {
		if is(h) {
			n++
		}
	}
	return n
}

func (r *referee) names(of func(*host) bool) string {
	var names []string
	for _, h := range r.hosts {
		if of(h) {
			names = append(names, h.name)
		}
	}
	return join(names)
}

// join lists names as in a sentence.
func join(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " and " + names[last]
}

// done reports whether the update is complete.
func (r *referee) done() bool {
	return r.all(updated) && len(r.semaphore.Holders) == 0 && (r.halt == nil || r.halt.missing(r) == nil)
}

// verdict returns an error with what is missing at the end: a sentence for hosts that were left behind and one for
// slots that are still held, and what a rollout that had to stop lacks.
func (r *referee) verdict() error {
	var missing []string
	behind := slices.DeleteFunc(slices.Clone(r.hosts), func(h *host) bool { return runs(h, r.version) && h.idle })
	if len(behind) > 0 {
		var hosts []string
		for _, h := range behind {
			hosts = append(hosts, fmt.Sprintf("%s (%s)", h.name, strings.TrimSuffix(h.state.String()+": "+h.status, ": ")))
		}
		missing = append(missing, fmt.Sprintf("%d of %d hosts were left behind: %s", len(behind), len(r.hosts), strings.Join(hosts, ", ")))
	}
	if held := len(r.semaphore.Holders); held > 0 {
		holders := r.names(func(h *host) bool { return h.holds })
		if holders == "" {
			holders = join(r.semaphore.Holders)
		}
		missing = append(missing, fmt.Sprintf("%d of %d slots were left held by %s", held, r.semaphore.Max, holders))
	}
	if r.halt != nil {
		missing = append(missing, r.halt.missing(r)...)
	}
	if len(missing) == 0 {
		return nil
	}
	return errors.New(strings.Join(missing, "; "))
}
