package policy

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/locksmithd/locksmith/internal/backoff"
	"github.com/locksmithd/locksmith/internal/safetext"
)

// attempt is the state's own business: every transition begins with a new one.
type attempt struct {
	blockedBy string // Locking: what Lock waits for

	asking bool   // Preparing: the gates were asked
	asked  bool   // Preparing: and have answered
	passed bool   // Preparing: a check lets the host reboot, and the drain comes next
	told   string // Preparing: the phase that the fleet was told of, if it could be

	checkAt  time.Time // Preparing: ask the gates again
	warnedAt time.Time // Preparing: the start of the users' delay; zero when there was nobody to tell
	rebootAt time.Time // Preparing: its end
	warned   bool      // Preparing: the users were warned
	final    bool      // Preparing: and that they cannot cancel it

	graceEnd time.Time // Rebooting: logind may have the request, and may carry it out until then
	err      error     // one that does not end the attempt: logind did not answer the reboot call
}

// retry remembers a failure and when to try again. The delay grows from first to limit, as package backoff says.
type retry struct {
	first, limit time.Duration

	n   int
	err error
	at  time.Time
}

func (r *retry) reset() { r.n, r.err, r.at = 0, nil, time.Time{} }

func (r *retry) fail(now time.Time, err error, rand *rand.Rand) {
	r.at = now.Add(backoff.Draw(rand.Int64N, r.n, r.first, r.limit))
	r.n++
	r.err = err
}

// note records the end of a try, and reports whether it succeeded.
func (r *retry) note(now time.Time, err error, rand *rand.Rand) bool {
	if err != nil {
		r.fail(now, err, rand)
		return false
	}
	r.reset()
	return true
}

// fact is the failure as a snapshot has it.
func (r *retry) fact(now time.Time) Retry {
	f := Retry{Error: r.err.Error()}
	if r.at.After(now) {
		f.At = r.at
	}
	return f
}

// tries is when the next attempt may begin.
type tries struct {
	slot   retry // failures before a slot is held
	reboot retry // failures after that: each try keeps a slot from others
}

func (t *tries) reset() {
	t.slot.reset()
	t.reboot.reset()
}

func (m *Machine) ready(now time.Time) bool {
	return !now.Before(m.tries.slot.at) && !now.Before(m.tries.reboot.at) && !now.Before(m.begin(now))
}

// begin returns when this host may begin in the opening of the window that contains now, or comes next. Whether
// something is hooked in before the reboot is known once the gates were asked: until then there has to be time for it.
func (m *Machine) begin(now time.Time) time.Time {
	var before time.Duration
	if m.gates.hooked || m.gates.until.IsZero() {
		before = m.config.BeforeTimeout
	}
	return m.config.begin(now, m.triggers.since, m.share, before)
}

// warn begins the users' delay.
func (m *Machine) warn(now time.Time) {
	delay := m.delay(now)
	m.attempt.warnedAt, m.attempt.rebootAt, m.attempt.final = now, now.Add(delay), m.overdue(now)
	m.schedule.at = m.wall(now).Add(delay + Backstop).Truncate(time.Microsecond) // as precise as logind is
	m.schedule.stands = true
}

// room reports whether the window stays open for the users' delay, and until logind would reboot the host by itself.
func (m *Machine) room(now time.Time) bool {
	_, end := m.config.opening(now)
	reboot := now.Add(m.delay(now))
	if m.attempt.warned {
		reboot = m.attempt.rebootAt
	}
	return end.IsZero() || reboot.Add(Backstop).Before(end)
}

// delay is what users who are told now have until the reboot.
func (m *Machine) delay(now time.Time) time.Duration {
	if m.overdue(now) {
		return min(m.config.LoginDelay, FinalDelay)
	}
	return m.config.LoginDelay
}

// drift is how far the wall clock has moved ahead of elapsed time since the reboot was scheduled.
func (m *Machine) drift(now time.Time) time.Duration {
	return m.wall(now).Add(m.attempt.rebootAt.Sub(now) + Backstop).Sub(m.schedule.at)
}

// message tells users of the reboot.
func (m *Machine) message() string {
	a := m.attempt
	text := fmt.Sprintf("System reboot in %s! locksmithd reboots this host at %s", spoken(a.rebootAt.Sub(a.warnedAt)), m.config.Clock(m.schedule.at.Add(-Backstop)))
	if version := m.triggers.version; version != "" {
		text += ", for version " + safetext.Clean(version)
	}
	if a.final {
		return text + ". It has been postponed for " + spoken(m.config.MaxPostpone) +
			" and cannot be cancelled any more. To go now, run: systemctl reboot"
	}
	return text + ". To cancel it, run: shutdown -c; it is tried again " + spoken(m.config.LoginRetry) +
		" later. To go now, log out, or run: systemctl reboot"
}

// spoken writes a duration for people.
func spoken(d time.Duration) string {
	n, unit := int64(d/time.Second), "second"
	if d >= time.Minute && d%time.Minute == 0 {
		n, unit = int64(d/time.Minute), "minute"
	}
	if n != 1 {
		unit += "s"
	}
	return fmt.Sprintf("%d %s", n, unit)
}
