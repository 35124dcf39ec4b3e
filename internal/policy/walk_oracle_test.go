package policy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// decision is a Decision, with the kind of effect that is started and what it carries.
type decision struct {
	Decision
	Start Kind
	order order
}

func decide(d Decision) decision { return decision{d, kindOf(d.Start), orderOf(d.Start)} }

func (w *world) open() bool {
	if w.wall == nil {
		return true
	}
	start, _ := w.wall.Next(w.now)
	return !start.After(w.now)
}

func (w *world) pending() bool { return w.engineSaid || w.requested }

// overdue reports whether people cannot postpone the reboot any more.
func (w *world) overdue() bool {
	held := w.postponed
	if !w.heldSince.IsZero() {
		held += w.now.Sub(w.heldSince)
	}
	return w.m.config.MaxPostpone > 0 && held >= w.m.config.MaxPostpone
}

// count keeps the time for which people hold the reboot back, in an open window and
// from there on.
func (w *world) count(state State, queues bool) {
	recent := !w.saidAt.IsZero() && !w.now.After(w.saidAt.Add(LookEvery+MaxNap))
	people := recent && (blocks(w.said) || w.said.Installing != "" && !queues)
	if recent && len(w.said.Users) > 0 && w.wall != nil {
		_, end := w.wall.Next(w.now)
		people = people || !end.After(w.now.Add(w.policyDelay()+Backstop))
	}
	people = people || state == Preparing && (w.warned || w.running == schedules) ||
		!w.cancelledAt.IsZero() && w.now.Before(w.cancelledAt.Add(w.m.config.LoginRetry))
	switch {
	case !w.pending() || !w.open():
	case people && w.heldSince.IsZero():
		w.heldSince = w.now
	case !people && recent && !w.heldSince.IsZero():
		w.postponed, w.heldSince = w.postponed+w.now.Sub(w.heldSince), time.Time{}
	}
}

// atWork reports whether somebody is known to be at work, which holds a slot back.
func (w *world) atWork() bool {
	return w.saidErr != nil || w.said.Shutdown.Type != "" || blocks(w.said) && !w.overdue() || w.running != locks && w.installs(w.said)
}

// installs reports whether an installation holds the reboot back.
func (w *world) installs(l Local) bool {
	return l.Installing != "" && !(w.overdue() && !w.now.Before(w.installing.Add(InstallGrace)))
}

// hears is what a look or a check tells the machine.
func (w *world) hears(local *Local, err error) {
	last := w.saidAt
	w.said, w.saidErr, w.saidAt = Local{}, err, w.now
	if local == nil {
		return
	}
	w.said = *local
	switch {
	case w.said.Installing == "":
		w.installing = time.Time{}
	case w.installing.IsZero() || w.now.After(last.Add(LookEvery+MaxNap)):
		w.installing = w.now
	}
}

// blocks reports whether there is, or may be, what holds a slot back until the deadline.
func blocks(l Local) bool { return len(l.Inhibitors) > 0 || l.Unclear != nil }

// tell steps the machine and checks everything that must hold then.
func (w *world) tell(ev Event) {
	switch ev := ev.(type) {
	case Update:
		w.hear(ev)
	case Checked:
		for _, u := range ev.Updates {
			w.hear(u)
		}
	case Leave:
		w.leave = &ev
	}
	before, heard, queues := w.m.state, w.m.people.cancelledAt, w.running == locks
	d := decide(w.m.Step(w.now, ev))
	w.heard(ev, w.m.people.cancelledAt != heard)
	w.note("%T%+v -> %v, start %v %v, cancel %v, look %v, nap %v; held %v, open %v, pending %v, local %+v, planned %v, etcd up %v, overdue %v",
		ev, ev, d.State, d.Start, d.order.at, d.Cancel, d.Look, d.Nap, w.held, w.open(), w.pending(), w.local, w.planned, w.etcdUp, w.overdue())
	w.moves(before, d)
	w.decided(before, d)
	w.listed(d)
	if d.State != Preparing {
		w.warned = false
	}
	if d.Start != nothing {
		w.running, w.order, w.check = d.Start, d.order, answer{}
	}
	if d.Cancel {
		w.cancelled = true
	}
	if d.Ask != nil {
		w.asking = true
	}
	if d.Look {
		w.looking, w.look, w.pace = true, answer{}, pick(w, 0.3, 0.3, 0.3, 0.3, 0.05)
	}
	w.count(d.State, queues)
	switch {
	case w.said.Installing == "":
	case w.running == locks && !w.cancelled:
		w.seen["place kept over an installation"]++
	case before == Locking && d.State == Releasing:
		w.seen["slot given back for an installation"]++
	}
	if d.Start == reboots {
		w.queued, w.force = true, d.order.force
		w.needsSlot = w.m.config.Lock && w.held
	}
	kept := w.m.Kept(w.now)
	w.kept = &kept
	w.holds(d)
	w.left = d.State == Left
}

// heard checks that the machine learns of a cancel from every answer that tells of it, and from no other.
func (w *world) heard(ev Event, heard bool) {
	var tells bool
	var err error
	switch r := ev.(type) {
	case Unscheduled:
		tells = r.Err == nil
	case Checked:
		tells, err = r.Local != nil && !w.ours(r.Local.Shutdown), r.Err
	}
	cancelled := tells && w.announced && !w.gone.IsZero() && w.announcedBy == w.instance
	if heard != cancelled {
		w.fail("after %T%+v a user's cancel is heard: %v; cancelled %v", ev, ev, heard, cancelled)
	}
	if heard {
		w.seen["cancelled by a user"]++
		if _, ok := ev.(Unscheduled); ok {
			w.seen["cancel heard when it was to be called off"]++
		} else if err != nil {
			w.seen["cancel heard in a check that failed"]++
		}
		w.cancelledAt = w.now
	}
	if tells {
		w.announced, w.gone = false, time.Time{}
	}
}

// ours reports whether a shutdown is the reboot that we scheduled last.
func (w *world) ours(s Shutdown) bool {
	return s.Type == "reboot" && s.At.Equal(w.warnedAt.Add(w.warnedAhead+w.warnedDelay+Backstop).Truncate(time.Microsecond))
}

// wasCancelled reports whether the check whose end this step learns has found
// that somebody has cancelled or replaced our reboot.
func (w *world) wasCancelled() bool { return w.warned && !w.ours(w.checked.Local.Shutdown) }

func (w *world) hear(u Update) {
	was := w.pending()
	switch u.Source {
	case Engine:
		if w.engineSaid && !u.Pending {
			w.requested = false
		}
		w.engineSaid = u.Pending
	case Requester:
		w.requested = u.Pending
	}
	switch {
	case !w.pending() && (was || u.Source == Engine):
		w.version, w.postponed, w.heldSince, w.postponedFor = "", 0, time.Time{}, ""
	case w.pending() && u.Pending && u.Version != "":
		w.version = u.Version
	}
	if w.pending() && w.version != "" && w.version != w.postponedFor {
		if w.postponedFor != "" {
			w.seen["another version not postponed yet"]++
			w.postponed, w.heldSince = 0, time.Time{}
		}
		w.postponedFor = w.version
	}
}

// moves checks the transitions of a step.
func (w *world) moves(before State, d decision) {
	if len(d.Moved) > 4 {
		w.fail("%d transitions in one step", len(d.Moved))
	}
	for _, move := range d.Moved {
		w.seen["move "+move.From.String()+" "+move.To.String()]++
		if move.From != before || move.To == before || move.Why == "" {
			w.fail("from %v it moved %+v", before, move)
		}
		if move.From == Left {
			w.fail("there is a way back from the end")
		}
		before = move.To
	}
	if d.State != before || w.m.state != before {
		w.fail("it moved to %v and says %v", before, d.State)
	}
}

// decided checks what a step has begun and ended.
func (w *world) decided(before State, d decision) {
	lock := w.m.config.Lock
	if d.Start != nothing && w.running != nothing {
		w.fail("%v is started while %v is running", d.Start, w.running)
	}
	if d.Cancel && (w.running == nothing || w.cancelled || d.Start != nothing) {
		w.fail("nothing is there to be cancelled: running %v, cancelled %v, start %v", w.running, w.cancelled, d.Start)
	}
	if d.Cancel && (w.running == unlocks || (w.running == unschedules || w.running == undrains) && before != Starting) && d.State != Left {
		w.fail("giving the slot back is cut short")
	}
	if d.Start == locks && w.held && !w.sinceBoot && w.m.health.bad != nil {
		w.seen["takes the fix"]++
	} else if d.Start == locks && w.held && !w.sinceBoot && !w.again {
		w.fail("a slot from before this boot is kept")
	}
	if d.Start != nothing && d.Start == w.failed {
		w.fail("%v has just failed and is started again at once", d.Start)
	}
	if d.Start == locks && w.checked != nil {
		w.fail("a slot that was taken away is taken again at once")
	}
	if d.Look && (w.looking || d.State != Waiting && d.State != Locking && !(d.State == Settling && w.m.health.bad != nil) || !w.open() || !w.pending() || w.leave != nil) {
		w.fail("a look in state %v, looking %v", d.State, w.looking)
	}
	if d.Ask != nil && (w.asking || !w.open() || !w.pending() || w.leave != nil) {
		w.fail("the gates are asked in state %v, asking %v", d.State, w.asking)
	}
	if d.Start == unlocks && w.drained && (w.sinceBoot || w.again) {
		w.fail("the slot is given back and the host is drained")
	}
	if d.Start == unlocks && w.held && w.recorded && !w.sinceBoot && !w.wellSince && !(w.m.config.HealthFailure == ReleaseSlot && w.m.health.bad != nil) {
		w.fail("the slot of before the boot is given back, and the host was not found well")
	}
	if d.State == Idle && w.bootedFor != nil {
		w.fail("the checks after the reboot are forgotten")
	}
	if d.Start == locks && w.drained {
		w.fail("a slot is waited for and the host is drained")
	}
	if d.Start == drains {
		w.drained, w.drainDone = true, false
		w.seen["drained"]++
		if lock && !w.m.slot.mayHold {
			w.fail("a drain without a slot")
		}
		if _, end := w.m.config.opening(w.now); !end.IsZero() && !end.After(w.now.Add(w.m.config.BeforeTimeout)) {
			w.fail("a drain that the window has no room for")
		}
	}
	if d.Start == reboots && lock && w.takenFor != w.version {
		w.fail("reboot for version %q with a slot for %q", w.version, w.takenFor)
	}
	if d.Start == reboots && w.m.gates.hooked && !w.drainDone {
		w.fail("reboot without the drain")
	}
	if d.State == Left && !w.left && w.drained && before != Rebooting && !w.leave.KeepLock && !(before == Starting && w.leave.Reload) && !w.undoFailed[undrains] && !w.undoFailed[unschedules] && !w.m.schedule.settlesAt.After(w.now) {
		w.fail("left and the host is drained")
	}
	if d.Start == unlocks && w.planned {
		w.fail("the slot is given back and our reboot stands")
	}
	if delay := w.policyDelay(); d.Start == locks || d.Start == schedules || d.Start == reboots {
		if w.now.Before(w.cancelledAt.Add(w.m.config.LoginRetry)) && !w.overdue() {
			w.fail("%v is started %v after a user has cancelled", d.Start, w.now.Sub(w.cancelledAt))
		}
		if !w.gone.IsZero() && !w.overdue() && (d.Start != reboots || w.check.at.After(w.gone)) {
			w.fail("%v is started, and the machine does not know that a user has cancelled", d.Start)
		}
		if d.Start == locks && (w.saidAt.IsZero() || w.now.Sub(w.saidAt) >= LookEvery || w.atWork()) {
			w.fail("lock is started, last looked at %v: %+v, %v", w.saidAt, w.said, w.saidErr)
		}
		if d.Start != reboots && w.wall != nil && len(w.said.Users) > 0 && delay > 0 {
			if _, end := w.wall.Next(w.now); !end.After(w.now.Add(delay + Backstop)) {
				w.fail("%v is started, and the window shuts within the users' delay", d.Start)
			}
		}
	}
	if w.failed == reboots && d.State == Rebooting {
		w.fail("it waits for a reboot that was refused")
	}
	if d.Start != nothing && (w.left || d.State == Left) {
		w.fail("%v is started after the end", d.Start)
	}
	if w.leave != nil && d.Start != nothing && d.Start != unlocks && d.Start != unschedules && d.Start != undrains {
		w.fail("%v is started after it was asked to leave", d.Start)
	}
	switch d.Start {
	case inspects, unlocks:
		if !lock {
			w.fail("%v is started under strategy reboot", d.Start)
		}
	case locks, checks, schedules, reboots, drains:
		if d.Start == locks && !lock {
			w.fail("lock is started under strategy reboot")
		}
		if !w.pending() {
			w.fail("%v is started and no update is pending", d.Start)
		}
		if !w.open() {
			w.fail("%v is started and the window is shut", d.Start)
		}
	}
	switch d.Start {
	case schedules:
		final := w.overdue()
		if w.checked == nil || len(w.checked.Local.Users) == 0 || w.checked.Local.Shutdown.Type != "" {
			w.fail("users are told, after the check %+v", w.checked)
		}
		if w.warned {
			w.seen["told again"]++
			if final == w.warnedFinal && !w.wasCancelled() {
				w.fail("users are told twice")
			}
		}
		w.warnedAt, w.warnedDelay, w.warnedFinal, w.warned = w.now, d.order.at.Sub(w.clock())-Backstop, final, false
		w.warnedAhead = w.ahead
		if short := w.policyDelay() - w.warnedDelay; short > time.Microsecond || short < 0 || w.warnedDelay <= 0 {
			w.fail("users have %v, want %v", w.warnedDelay, w.policyDelay())
		}
	case reboots:
		if w.checked == nil {
			w.fail("reboot without a check right before")
			break
		}
		if lock && !w.checked.Held {
			w.fail("reboot without the slot")
		}
		if d.order.force != w.overdue() {
			w.fail("force is %v, overdue %v: %v since %v, and %v since %v", d.order.force, w.overdue(), w.postponed, w.heldSince, w.m.people.postponed, w.m.people.heldSince)
		}
		local := w.checked.Local
		if w.installs(*local) {
			w.fail("reboot in the middle of an installation that is known since %v", w.installing)
		}
		if blocks(*local) {
			w.seen["reboot in spite of inhibitors"]++
			if !w.overdue() {
				w.fail("reboot in spite of inhibitors")
			}
		}
		if w.wasCancelled() && w.overdue() {
			w.seen["cancelled too late"]++
			if local.Shutdown.Type != "" || !w.warnedFinal && len(local.Users) > 0 && w.policyDelay() > 0 {
				w.fail("a reboot that a user has cancelled without being answered, or %+v", local.Shutdown)
			}
		} else if local.Shutdown.Type != "" && !(w.warned && w.ours(local.Shutdown)) {
			w.fail("reboot beside %+v", local.Shutdown)
		}
		switch {
		case len(local.Users) == 0:
		case (!w.warned || w.wasCancelled()) && w.m.config.LoginDelay == 0:
			w.seen["reboot without a delay"]++
		case !w.warned || w.now.Sub(w.warnedAt) < w.warnedDelay:
			w.fail("reboot %v after users were told, told %v", w.now.Sub(w.warnedAt), w.warned)
		case w.warnedFinal:
			w.seen["reboot after the last minute"]++
		default:
			w.seen["reboot after the delay"]++
		}
	}
	if drift := w.ahead - w.warnedAhead; w.checked != nil && w.warned && w.ours(w.checked.Local.Shutdown) && drift.Abs() > MaxDrift {
		if d.State == Preparing {
			w.fail("the clock was stepped by %v, and what is scheduled is left", drift)
		}
		w.seen["called off, the clock was stepped"]++
	}
	if d.State == Left && !w.left && w.planned && !w.m.schedule.settlesAt.After(w.now) && before != Rebooting && !w.leave.KeepLock && !w.undoFailed[unlocks] && !w.undoFailed[unschedules] && !w.undoFailed[undrains] && w.m.schedule.stands && w.inspectOK {
		w.fail("left with a reboot scheduled, without need")
	}
	if d.State == Left && !w.left && w.held && lock && !w.m.schedule.settlesAt.After(w.now) && before != Rebooting && !w.leave.KeepLock && !w.undoFailed[unlocks] && !w.undoFailed[unschedules] && !w.undoFailed[undrains] && w.inspectOK && !w.m.health.pending {
		w.fail("left with the slot, without need")
	}
}

// policyDelay is what users who are told now have to have.
func (w *world) policyDelay() time.Duration {
	if w.overdue() {
		return min(w.m.config.LoginDelay, time.Minute)
	}
	return w.m.config.LoginDelay
}

// holds checks what must hold between two steps.
func (w *world) holds(d decision) {
	if forever := d.State == Idle || d.State == Left; d.Nap < 0 || d.Nap > MaxNap || forever != (d.Nap == 0) {
		w.fail("the nap is %v in state %v", d.Nap, d.State)
	}
	if kindOf(w.m.running) != w.running {
		w.fail("the machine says that %v is running, and %v is", w.m.running, w.running)
	}
	if (w.planned || !w.late.at.IsZero()) && !w.m.schedule.stands {
		w.fail("our reboot stands and the machine rules it out")
	}
	if w.m.looking != w.looking {
		w.fail("the machine says %v about a look, and it is %v", w.m.looking, w.looking)
	}
	if w.leave != nil && d.State != Left && d.State != Rebooting && !w.cancelled && !w.m.schedule.settlesAt.After(w.now) && w.running != unlocks && w.running != unschedules && w.running != undrains {
		w.fail("asked to leave, it goes on with %v", w.running)
	}
	if w.m.config.Lock && w.held && !w.m.MayHold() {
		w.fail("a slot is held and the machine rules it out")
	}
	if !w.m.config.Lock && w.m.MayHold() {
		w.fail("without a lock nothing is held")
	}
	idling := w.running == nothing || w.cancelled
	switch d.State {
	case Idle:
		if w.m.MayHold() || w.m.schedule.mayReboot() || w.pending() {
			w.fail("idle, may hold %v, may stand %v, pending %v", w.m.MayHold(), w.m.schedule.stands, w.pending())
		}
	case Waiting:
		if w.m.MayHold() && !w.open() {
			w.fail("waits for the window while it may hold a slot")
		}
		if w.m.MayHold() && !w.saidAt.IsZero() && w.now.Sub(w.saidAt) < LookEvery && w.m.ready(w.now) && w.atWork() {
			w.fail("waits for somebody at work while it may hold a slot")
		}
		if !w.pending() || w.running != nothing {
			w.fail("waiting, pending %v, running %v", w.pending(), w.running)
		}
	case Locking, Preparing:
		if !w.open() && !(w.running != nothing && w.cancelled) {
			w.fail("%v goes on although the window is shut", d.State)
		}
		if d.State == Locking && w.running != locks {
			w.fail("locking, running %v", w.running)
		}
		if d.State == Locking && !w.cancelled && w.atWork() {
			w.fail("queues while somebody is at work")
		}
		if d.State == Locking && !w.cancelled && !w.looking && w.now.Sub(w.saidAt) >= LookEvery {
			w.fail("queues without looking")
		}
	case Settling, Releasing:
		h := w.m.health
		checking := d.State == Settling && h.pending && (w.running != nothing || h.retry.at.After(w.now) || h.wellAt.Add(w.m.config.ReleaseDelay).After(w.now))
		if idling && w.leave == nil && !checking && !w.m.slot.retry.at.After(w.now) && !w.m.schedule.retry.at.After(w.now) && !w.m.drain.retry.at.After(w.now) && !w.m.schedule.settlesAt.After(w.now) {
			w.fail("%v waits for nothing", d.State)
		}
	}
	if status := w.m.Status(w.now); status == "" || strings.Contains(status, "0001-01-01") || strings.Contains(status, "%!") {
		w.fail("the status is %q", status)
	}
}

// live checks that there is a way to the end: once nothing fails any more, the host
// reboots if it is to, and holds nothing if not, within a bounded number of steps and a bounded time.
func (w *world) live() error {
	const steps, limit = 400, RebootGrace + 30*time.Minute + time.Hour // which is the longest that a user may cancel it for
	c := *w
	m := *w.m
	m.triggers.sources = slices.Clone(m.triggers.sources)
	c.undoFailed = maps.Clone(w.undoFailed)
	c.m, c.log = &m, append([]string(nil), w.log...)
	c.rand = rand.New(rand.NewPCG(uint64(w.now.UnixNano()), 1))
	c.seen = coverage{}
	m.rand = c.rand
	m.config.Window, c.wall = nil, nil
	c.etcdUp, c.logindUp, c.local, c.engine = true, true, Local{Shutdown: c.local.Shutdown}, c.engineSaid
	if !c.planned {
		c.local.Shutdown = Shutdown{}
	}
	if c.planned && m.schedule.stands && m.schedule.at.IsZero() { // as the status line says
		c.local.Shutdown, c.planned = Shutdown{}, false
	}
	c.late = order{}
	c.gateOpen, c.sick = true, false
	if m.health.mismatch() != nil { // nothing on this host makes it well: somebody frees the slot
		c.held = false
	}
	c.answerReboot()
	c.note("the world turns kind")

	for range steps {
		switch {
		case c.err != nil:
			w.log = c.log
			return c.err
		case c.now.Sub(w.now) > limit:
			return fmt.Errorf("no way to the end within %v: %v", limit, m.Status(c.now))
		case c.left && !c.leave.Reload:
			return nil
		case c.left:
			m = *m.Restart(Config{Lock: m.config.Lock}, c.now)
			c.fresh()
			c.tell(Tick{})
		case c.pending() && m.state == Rebooting, !c.pending() && m.state == Idle && !c.held:
			return nil
		case c.down, c.planned && !c.local.Shutdown.At.After(c.clock()):
			return nil // logind reboots the host
		case c.asking && c.chance(0.5):
			c.endAsk()
		case c.looking && c.chance(0.5):
			local := c.local
			c.looking = false
			c.hears(&local, nil)
			c.tell(Looked{Local: &local})
		case c.running != nothing && (c.running != locks || c.cancelled || c.chance(0.5)):
			c.now = c.now.Add(c.upTo(20 * time.Second))
			c.check.at = c.now
			c.end(c.smoothEnd())
		case m.state == Idle:
			return errors.New("idle forever, and a slot is held")
		default:
			c.now = c.now.Add(m.nap(c.now))
			c.tell(Tick{})
		}
	}
	w.log = c.log
	return fmt.Errorf("no way to the end in %d steps: %v", steps, m.Status(c.now))
}

// smoothEnd is how the running effect ends while nothing fails.
func (w *world) smoothEnd() Result {
	local, logind := w.local, w.logind()
	if w.cancelled {
		switch w.running {
		case locks:
			return Locked{context.Canceled, true}
		case unschedules:
			return Unscheduled{w.undone, logind, context.Canceled}
		}
		return ends(w.running, context.Canceled)
	}
	switch w.running {
	case inspects:
		return w.inspected()
	case locks:
		return w.locked(nil)
	case unlocks:
		w.held = false
		return Unlocked{}
	case tells:
		return Told{Report: w.order.report}
	case drains:
		return Drained{}
	case undrains:
		return Undrained{}
	case verifies:
		return w.verified(nil)
	case checks:
		return Checked{Local: &local, Logind: logind, Held: w.held}
	case schedules:
		if !w.granted && w.local.Shutdown.Type == "" {
			w.schedule(w.order)
		}
		return Scheduled{Logind: logind}
	case unschedules:
		if w.undecided() {
			return Unscheduled{w.undone, logind, errRefused}
		}
		return w.unscheduled(nil)
	}
	return Rebooted{}
}
