package policy

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// answer is what an effect has heard so far: logind and the lock are asked one after
// another, and other things happen in between.
type answer struct {
	step   int    // the next question
	failed bool   // somebody did not answer; no more questions are asked then
	local  *Local // the last that logind said
	at     time.Time
	held   bool // by this host
	update []Update
}

// clock is the clock that logind uses.
func (w *world) clock() time.Time { return w.now.Add(w.ahead) }

// meanwhile changes the truth without an event.
func (w *world) meanwhile() {
	if w.etcdUp && w.fault(0.05) || !w.etcdUp && w.chance(0.05) {
		w.etcdUp = !w.etcdUp
	}
	if w.fault(0.05) {
		w.engine = w.chance(0.7)
	}
	if w.logindUp && w.fault(0.03) || !w.logindUp && w.chance(0.05) {
		w.logindUp = !w.logindUp
	}
	if w.fault(0.05) || w.chance(0.01) {
		w.local.Users = pick(w, nil, twoUsers.Users)
	}
	if w.fault(0.03) || w.chance(0.01) && len(w.local.Inhibitors) > 0 {
		w.local.Inhibitors = pick(w, nil, nil, backup.Inhibitors)
	}
	if w.fault(0.02) || w.chance(0.01) && w.local.Unclear != nil {
		w.local.Unclear = pick(w, nil, nil, errNonsense)
	}
	switch {
	case w.local.Installing != "" && w.chance(0.1):
		w.local.Installing = ""
	case w.fault(0.003), w.running == locks && w.chance(0.02):
		w.local.Installing = atPackages.Installing
	}
	if w.gateOpen && w.fault(0.03) || !w.gateOpen && w.chance(0.05) {
		w.gateOpen = !w.gateOpen
	}
	if w.sick && w.chance(0.005) {
		w.sick = false
	}
	w.others()
	if w.fault(0.01) || w.planned && w.chance(0.02) {
		w.seen["clock stepped"]++
		w.ahead += pick[time.Duration](w, -1, 1) * pick(w, w.upTo(10*time.Second), w.upTo(time.Minute), w.upTo(6*time.Hour), w.upTo(1000*time.Hour))
		if w.wall != nil {
			w.wall.ahead = w.ahead
		}
	}
	if w.fault(0.01) && w.held {
		w.seen["taken away"]++
		w.held, w.needsSlot, w.again = false, false, false // unlocked by hand; an undecided transaction fails then
	}
	if (w.planned || w.queued) && w.chance(0.01) {
		w.restartLogind()
	}
	switch {
	case !w.logindUp || w.now.After(w.lateEnd):
		w.late = order{}
	case !w.late.at.IsZero() && w.local.Shutdown.Type == "" && w.chance(0.3):
		w.seen["scheduled late"]++
		w.schedule(w.late)
	}
	if w.chance(0.3) {
		w.answerReboot()
	}
	if w.down && w.chance(0.02) {
		w.down = false // the service manager did not do it
	}
	if w.held && (w.fault(0.01) || w.planned && w.chance(0.05)) {
		w.recorded = false // locked by hand with an old tool
	}
	if w.looking && w.look.step == 0 && w.chance(0.2) {
		w.ask(&w.look)
	}
	if w.running == checks && w.chance(0.3) {
		w.ask(&w.check)
	}
	w.commit()
}

// ask has an effect hear one more answer: a Look that of logind, a Check those of
// update_engine and logind, of the lock, and of logind again.
func (w *world) ask(a *answer) {
	last := 1
	if a == &w.check && w.m.config.Lock {
		last = 3
	}
	if a.step >= last || a.failed {
		return
	}
	a.step++
	switch {
	case a.step == 2:
		a.failed, a.held = !w.etcdUp, w.holding() != NotHeld
	case w.logindUp:
		before := a.local
		local := w.local
		a.local, a.at = &local, w.now
		if before != nil && before.Shutdown != local.Shutdown {
			w.seen["last word differs"]++
		}
	default:
		a.failed = true
	}
	if a.step == 1 && a == &w.check && w.chance(0.7) {
		a.update = []Update{{Source: Engine, Pending: w.engine}}
	}
}

// others lets people schedule and cancel shutdowns.
func (w *world) others() {
	switch {
	case w.local.Shutdown.Type != "" && !w.planned:
		if w.chance(0.2) {
			w.local.Shutdown = Shutdown{}
		}
	case w.planned && w.fault(0.05), w.fault(0.005):
		if w.planned {
			w.seen["replaced by a user"]++
		}
		w.dropped()
		w.local.Shutdown = Shutdown{Type: pick(w, "reboot", "poweroff"), At: w.clock().Add(time.Second + w.upTo(time.Hour))}
	case w.planned && w.chance(0.02), w.planned && w.overdue() && w.chance(0.5):
		w.dropped()
	}
}

// dropped is what others do to what we scheduled.
func (w *world) dropped() {
	w.local.Shutdown, w.planned = Shutdown{}, false
	if w.announced && w.gone.IsZero() {
		w.gone = w.now
	}
}

// fires lets logind do what is scheduled and due, and reports whether the host
// goes down for it.
func (w *world) fires() bool {
	if w.down && w.chance(0.1) {
		w.seen["rebooted as asked"]++
		w.goesDown()
		w.kill(true)
		return true
	}
	s := w.local.Shutdown
	if s.Type == "" || s.At.After(w.clock()) {
		return false
	}
	if w.planned {
		w.seen["logind rebooted"]++
		w.goesDown()
		after, drift := s.At.Add(-w.ahead).Sub(w.warnedAt), w.ahead-w.warnedAhead
		switch early := w.warnedAt.IsZero() || after < w.warnedDelay; {
		case early && drift > MaxDrift: // there was no time to call it off: holds checks that
			w.seen["logind rebooted early, the clock was stepped"]++
		case early:
			w.fail("logind reboots %v after users were told", after)
		}
	}
	w.local.Shutdown, w.planned = Shutdown{}, false
	w.kill(true)
	return true
}

// goesDown is when logind does what we have asked it for, for which the host has its slot.
func (w *world) goesDown() {
	w.went = true
	if w.needsSlot && !w.held {
		w.fail("the host goes down because we asked for it, and has no slot")
	}
}

// scheduledByUs reports, as the loop does, whether what is scheduled is to be cancelled.
func (w *world) scheduledByUs() bool {
	return w.order.stands && !w.order.at.IsZero() && w.local.Shutdown.Ours(w.order.at)
}

// undecided reports, as the loop does, that logind cannot rule out that a reboot of ours comes.
func (w *world) undecided() bool {
	if w.order.asked {
		w.answerReboot() // calls are answered in their order
	}
	return !w.logindUp || w.order.asked && w.down || w.order.stands && w.order.at.IsZero() && w.local.Shutdown.Type == "reboot"
}

// answerReboot has logind take the call for a reboot, if there is one.
func (w *world) answerReboot() {
	if w.queued && w.logindUp {
		w.queued = false
		w.down = w.down || w.force || len(w.local.Inhibitors) == 0
	}
}

// commit lets a transaction of the running effect happen.
func (w *world) commit() {
	switch {
	case w.running == schedules || w.running == unschedules:
		switch {
		case !w.logindUp || !w.chance(0.3):
		case w.running == schedules && w.local.Shutdown.Type == "" && !w.granted:
			w.schedule(w.order)
			w.granted = true
		case w.running == unschedules && !w.undecided() && w.scheduledByUs():
			w.local.Shutdown, w.planned, w.undone = Shutdown{}, false, true
		}
	case !w.etcdUp || !w.chance(0.3):
	case w.running == locks && !w.held && !w.granted:
		w.take()
		w.granted = true
	case w.running == unlocks && w.held && !(w.down && w.logindUp):
		w.held, w.undone = false, true
	}
}

// take is what the running Lock does when a slot is free.
func (w *world) take() {
	w.held, w.sinceBoot, w.recorded, w.takenFor = true, true, true, w.order.version
}

func (w *world) schedule(o order) {
	w.local.Shutdown, w.planned, w.late = Shutdown{Type: "reboot", At: o.at}, true, order{}
	w.needsSlot = w.m.config.Lock && w.held
}

// restartLogind restarts logind, which loses what it was asked for, and, before systemd 257,
// what is scheduled.
func (w *world) restartLogind() {
	w.seen["logind restarted"]++
	w.instance++
	w.queued, w.late = false, order{}
	if w.planned && w.chance(0.5) {
		w.seen["logind lost what was scheduled"]++
		w.local.Shutdown, w.planned = Shutdown{}, false
	}
}

// result draws an end of the running effect that its contract allows.
func (w *world) result() Result {
	err := w.failure()
	switch w.running {
	case inspects:
		if err != nil {
			return Inspected{Err: err}
		}
		return w.inspected()
	case locks:
		return w.locked(err)
	case unlocks:
		if err == nil {
			w.held = false
		} else if w.undone {
			w.seen["lost reply of unlock"]++
		}
		return Unlocked{err}
	case tells:
		return Told{Report: w.order.report, Err: err}
	case drains:
		return Drained{err}
	case undrains:
		return Undrained{err}
	case verifies:
		return w.verified(err)
	case checks:
		return Checked{w.check.update, w.check.local, w.logind(), w.check.held, nil, err}
	case schedules:
		return w.scheduled(err)
	case unschedules:
		return w.unscheduled(err)
	}
	return w.rebooted()
}

// failure draws whether the running effect fails, and how.
func (w *world) failure() error {
	failed := !w.etcdUp || w.fault(0.2)
	switch w.running {
	case schedules:
		failed = !w.logindUp || w.fault(0.2)
	case unschedules:
		failed = w.undecided() || w.fault(0.2)
	case unlocks:
		failed = failed || w.down && w.logindUp
	case drains, undrains:
		failed = w.fault(0.3)
	case verifies:
		failed = w.sick || w.fault(0.1)
	case checks:
		for failed = w.fault(0.2); !failed && !w.cancelled && w.check.step < 3; {
			before := w.check.step
			if w.ask(&w.check); w.check.step == before {
				break
			}
		}
		failed = failed || w.check.failed
	}
	switch {
	case w.cancelled && (failed || w.running == checks || w.running == verifies || w.chance(0.8)):
		return context.Canceled
	case failed:
		return pick(w, errDown, errRefused)
	}
	return nil
}

// logind names the logind that answers.
func (w *world) logind() string { return fmt.Sprint(w.instance) }

func (w *world) locked(err error) Locked {
	if err == nil {
		if !w.held {
			w.take()
		}
		return Locked{}
	}
	unknown := w.granted || w.chance(0.3)
	if w.granted {
		w.seen["lost reply of lock"]++
	}
	if !unknown && w.held {
		w.seen["failed lock while held"]++
	}
	return Locked{err, unknown}
}

func (w *world) scheduled(err error) Scheduled {
	unknown := false
	switch {
	case err == nil && !w.granted && w.local.Shutdown.Type != "":
		err = errors.New("something else is scheduled")
	case err == nil && !w.granted:
		w.schedule(w.order)
	case err == nil:
	case w.granted:
		unknown = w.chance(0.5) // or a read shows that it stands, and it is cancelled
		w.seen["lost reply of schedule"]++
	case w.chance(0.5):
		unknown = true
		w.late, w.lateEnd = w.order, w.now.Add(callGrace/2)
	}
	return Scheduled{w.logind(), err, unknown}
}

func (w *world) unscheduled(err error) Unscheduled {
	found := w.undone || w.scheduledByUs() && (err == nil || w.chance(0.3))
	if err == nil && w.scheduledByUs() {
		w.local.Shutdown, w.planned = Shutdown{}, false
	}
	if err != nil && w.undone {
		w.seen["lost reply of unschedule"]++
	}
	return Unscheduled{found, w.logind(), err}
}

func (w *world) rebooted() Rebooted {
	asked := w.queued
	w.answerReboot()
	switch {
	case !w.logindUp, w.fault(0.2):
		return Rebooted{Err: errDown, Unknown: true}
	case asked && !w.down, w.fault(0.6) && !w.down:
		w.queued = false
		return Rebooted{Err: errRefused}
	}
	return Rebooted{}
}

func (w *world) holding() Holding {
	switch {
	case !w.m.config.Lock:
		return pick(w, NotHeld, HeldThisBoot) // does not count
	case !w.held:
		return NotHeld
	case !w.recorded:
		w.seen["no record of the slot"]++
		return HeldUnrecorded
	case w.sinceBoot, w.again:
		return HeldThisBoot
	}
	return HeldSinceBefore
}

// end reports the end of the running effect.
func (w *world) end(r Result) {
	kind, err, cancelled := w.running, r.Failure(), w.cancelled
	w.seen["end "+kind.Name]++
	if err != nil {
		w.seen["failed "+kind.Name]++
	}
	w.running, w.cancelled, w.granted, w.undone = nothing, false, false, false
	unknown := false
	switch r := r.(type) {
	case Inspected:
		w.inspectOK = w.inspectOK || err == nil
	case Locked:
		unknown = r.Unknown
	case Unlocked:
		w.undoFailed[kind] = err != nil
	case Unscheduled:
		w.undoFailed[kind] = err != nil
		if r.Found {
			w.announced = false
		}
		if err == nil && w.said.Shutdown.At.Equal(w.order.at) {
			w.said.Shutdown = Shutdown{}
		}
	case Scheduled:
		unknown = r.Unknown
		w.warned = err == nil || w.warnedFinal
		if err == nil {
			w.announced, w.announcedBy, w.gone = true, w.instance, time.Time{}
			if !w.planned {
				w.gone = w.now
			}
		}
	case Checked:
		if r.Local != nil {
			w.hears(r.Local, nil)
		}
		if err == nil && !cancelled {
			w.checked = &r
		}
	case Told:
		if err == nil && r.Report.Again && w.held {
			w.again, w.takenFor = true, r.Report.Version
		}
	case Drained:
		w.drainDone = err == nil
	case Undrained:
		w.undoFailed[kind] = err != nil
		if err == nil {
			w.drained, w.drainDone = false, false
		}
	case Verified:
		if err == nil {
			w.wellSince, w.bootedFor = true, nil
		}
	case Rebooted:
		unknown = r.Unknown
	}
	if unknown {
		w.seen["unknown "+kind.Name]++
	}
	if err != nil && !unknown && !cancelled {
		w.failed = kind
	}
	w.tell(r)
	w.checked, w.failed = nil, nothing
}

func (w *world) inspected() Inspected {
	r := Inspected{Holding: w.holding()}
	if w.bootedFor != nil {
		r.Purpose = *w.bootedFor
	}
	if r.Holding == HeldThisBoot {
		r.Purpose = Purpose{Version: w.takenFor}
	}
	return r
}

func (w *world) verified(err error) Verified {
	taken := w.order.recheck && !errors.Is(err, context.Canceled) && w.etcdUp && !w.held
	if taken {
		w.bootedFor = nil
		w.seen["freed while unwell"]++
	}
	return Verified{Taken: taken, Err: err}
}

// bootsNext is what the host is after it has gone down.
func (w *world) bootsNext() {
	w.drained, w.drainDone, w.wellSince, w.again, w.bootedFor = false, false, false, false, nil
	w.sick = w.chance(0.2)
	if !w.went {
		return
	}
	w.went, w.bootedFor = false, &Purpose{Version: w.version}
	if w.version != "" && w.engineSaid {
		w.bootedFor.OSVersion = w.runs
		if w.chance(0.8) {
			w.runs = w.version
		} else {
			w.seen["came back with the old version"]++
		}
	}
}

// endAsk reports what the gates say.
func (w *world) endAsk() {
	w.asking = false
	e := Asked{Hooked: w.hooked}
	if !w.gateOpen {
		w.seen["gate shut"]++
		e.Obstacle = &Obstacle{pick(w, append(AskOrder(), Unclear)...), "a gate"}
	}
	w.tell(e)
}

// endLook reports the end of the running Look.
func (w *world) endLook() {
	w.ask(&w.look)
	d := Looked{Local: w.look.local}
	w.seen["end look"]++
	if d.Local != nil && d.Local.Shutdown != w.local.Shutdown {
		w.seen["late look"]++
	}
	if d.Local == nil || w.fault(0.1) {
		w.seen["failed look"]++
		d.Local, d.Err = nil, errRefused
	}
	w.hears(d.Local, d.Err)
	w.looking = false
	before := w.m.state
	if w.tell(d); before == Locking && w.cancelled && w.atWork() {
		w.seen["queue left for somebody at work"]++
	}
}

// periodic is a Window that opens again and again, and always has.
type periodic struct {
	from           time.Time
	period, length time.Duration
}

func (g *periodic) Next(t time.Time) (start, end time.Time) {
	into := t.Sub(g.from) % g.period
	if into < 0 {
		into += g.period
	}
	start = t.Add(-into)
	if into >= g.length {
		start = start.Add(g.period)
	}
	return start, start.Add(g.length)
}

func (g *periodic) ShutBy(time.Time) string { return "" }
