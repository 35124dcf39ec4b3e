package policy

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// done is how an effect ends; only the fields of its kind count.
type done struct {
	Effect  Kind
	Err     error
	Unknown bool
	Holding Holding
	Held    bool
	Local   *Local
	Update  *Update
	Found   bool
	Logind  string
}

func (d done) result() Result {
	switch d.Effect {
	case inspects:
		return Inspected{d.Holding, d.Err}
	case locks:
		return Locked{d.Err, d.Unknown}
	case unlocks:
		return Unlocked{d.Err}
	case checks:
		return Checked{d.Update, d.Local, d.Logind, d.Held, d.Err}
	case schedules:
		return Scheduled{d.Logind, d.Err, d.Unknown}
	case unschedules:
		return Unscheduled{d.Found, d.Logind, d.Err}
	case reboots:
		return Rebooted{d.Err, d.Unknown}
	}
	panic("no effect " + d.Effect.Name)
}

// answer is what an effect has heard so far: logind and the lock are asked one after
// another, and other things happen in between.
type answer struct {
	step   int    // of asking
	failed bool   // somebody did not answer; no more questions are asked then
	local  *Local // the last that logind said
	at     time.Time
	held   bool // by this host
	update *Update
}

// clock is what logind goes by.
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
		w.held, w.needsSlot = false, false // unlocked by hand; an undecided transaction fails then
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
		a.update = &Update{Source: Engine, Pending: w.engine}
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
		case early && drift > MaxDrift: // there was no time to call it off: holds looks at that
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
		w.held, w.sinceBoot, w.recorded, w.granted = true, true, true, true
	case w.running == unlocks && w.held && !(w.down && w.logindUp):
		w.held, w.undone = false, true
	}
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
func (w *world) result() done {
	d := done{Effect: w.running}
	failed := !w.etcdUp || w.fault(0.2)
	switch w.running {
	case schedules:
		failed = !w.logindUp || w.fault(0.2)
	case unschedules:
		failed = w.undecided() || w.fault(0.2)
	case unlocks:
		failed = failed || w.down && w.logindUp
	case checks:
		for failed = w.fault(0.2); !failed && !w.cancelled && w.check.step < 3; {
			before := w.check.step
			if w.ask(&w.check); w.check.step == before {
				break
			}
		}
		failed = failed || w.check.failed
	}
	if w.cancelled && (w.running == checks || w.chance(0.8)) {
		failed = true
	}
	if failed {
		d.Err = pick(w, errDown, errRefused)
		if w.cancelled {
			d.Err = context.Canceled
		}
	}
	switch w.running {
	case inspects:
		if !failed {
			d.Holding = w.holding()
		}
	case locks:
		if !failed && !w.held {
			w.held, w.sinceBoot, w.recorded = true, true, true
		}
		d.Unknown = failed && (w.granted || w.chance(0.3))
		if w.granted && failed {
			w.seen["lost reply of lock"]++
		}
		if failed && !d.Unknown && w.held {
			w.seen["failed lock while held"]++
		}
	case unlocks:
		if !failed {
			w.held = false
		}
		if failed && w.undone {
			w.seen["lost reply of unlock"]++
		}
	case schedules:
		switch {
		case !failed && !w.granted && w.local.Shutdown.Type != "":
			d.Err = errors.New("something else is scheduled")
		case !failed && !w.granted:
			w.schedule(w.order)
		case failed && w.granted:
			d.Unknown = w.chance(0.5) // or it is read that it stands, and cancelled
			w.seen["lost reply of schedule"]++
		case failed && w.chance(0.5):
			d.Unknown = true
			w.late, w.lateEnd = w.order, w.now.Add(callGrace/2)
		}
	case unschedules:
		d.Found = w.undone || w.scheduledByUs() && (!failed || w.chance(0.3))
		if !failed && w.scheduledByUs() {
			w.local.Shutdown, w.planned = Shutdown{}, false
		}
		if failed && w.undone {
			w.seen["lost reply of unschedule"]++
		}
	case checks:
		d.Update, d.Held, d.Local = w.check.update, w.check.held, w.check.local
	case reboots:
		asked := w.queued
		w.answerReboot()
		switch {
		case !w.logindUp, w.fault(0.2):
			d.Err, d.Unknown = errDown, true
		case asked && !w.down, w.fault(0.6) && !w.down:
			d.Err, w.queued = errRefused, false
		default:
			d.Err = nil
		}
	}
	d.Logind = fmt.Sprint(w.instance)
	return d
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
	case w.sinceBoot:
		return HeldThisBoot
	}
	return HeldSinceBefore
}

// end reports the end of the running effect.
func (w *world) end(d done) {
	w.seen["end "+d.Effect.Name]++
	if d.Err != nil {
		w.seen["failed "+d.Effect.Name]++
	}
	if d.Unknown {
		w.seen["unknown "+d.Effect.Name]++
	}
	cancelled := w.cancelled
	w.running, w.cancelled, w.granted, w.undone = nothing, false, false, false
	switch d.Effect {
	case inspects:
		w.inspectOK = w.inspectOK || d.Err == nil
	case unlocks, unschedules:
		w.undoFailed[d.Effect] = d.Err != nil
		if d.Found {
			w.announced = false
		}
		if d.Effect == unschedules && d.Err == nil && w.said.Shutdown.At.Equal(w.order.at) {
			w.said.Shutdown = Shutdown{}
		}
	case schedules:
		w.warned = d.Err == nil || w.warnedFinal
		if d.Err == nil {
			w.announced, w.announcedBy, w.gone = true, w.instance, time.Time{}
			if !w.planned {
				w.gone = w.now
			}
		}
	case checks:
		if d.Local != nil {
			w.said, w.saidErr, w.saidAt = *d.Local, nil, w.now
		}
		if d.Err == nil && !cancelled {
			w.checked = &d
		}
	}
	if d.Err != nil && !d.Unknown && !cancelled {
		w.failed = d.Effect
	}
	w.tell(d.result())
	w.checked, w.failed = nil, nothing
}

// endLook reports the end of the running Look.
func (w *world) endLook() {
	w.ask(&w.look)
	d := Looked{Local: w.look.local}
	w.seen["end look"]++
	if d.Local != nil && d.Local.Shutdown != w.local.Shutdown {
		w.seen["late look"]++
	}
	w.said, w.saidErr, w.saidAt = Local{}, nil, w.now
	if d.Local == nil || w.fault(0.1) {
		w.seen["failed look"]++
		d.Local, d.Err = nil, errRefused
		w.saidErr = d.Err
	} else {
		w.said = *d.Local
	}
	w.looking = false
	before := w.m.state
	if w.tell(d); before == Locking && w.cancelled && w.atWork() {
		w.seen["queue left for somebody at work"]++
	}
}

// periodic is a Gate that opens again and again, and always has.
type periodic struct {
	from           time.Time
	period, length time.Duration
}

func (g *periodic) Open(t time.Time) bool {
	start, _ := g.Next(t)
	return !start.After(t)
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
