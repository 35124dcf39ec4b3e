package policy

import (
	"strings"
	"time"
)

// Facts is what hooks are told.
type Facts struct {
	Version string // of the update; "" when that is not known
	Reason  string // why they run
}

// drain is what is hooked in before a reboot. It is undone unless the host reboots.
type drain struct {
	begun bool  // it has begun, perhaps by an earlier process, and was not undone
	done  bool  // and all of it has succeeded
	retry retry // of Undrain
}

// mustDrain reports whether the drain comes next: all else lets the host reboot.
func (m *Machine) mustDrain() bool { return m.attempt.passed && !m.drain.done }

// needed says why the host reboots.
func (m *Machine) needed() string {
	return "a reboot is needed: " + strings.Join(m.triggers.reasons(), ", ")
}

func (r Drained) fold(m *Machine, now time.Time) {
	if r.Err != nil && !m.stopped {
		m.hookFailed = &HookFailed{HookBefore, m.triggers.version, r.Err.Error(), now}
	}
	m.drain.done = r.Err == nil
	m.attempt.asking, m.attempt.asked = false, false // it may have taken long
}

func (r Undrained) fold(m *Machine, now time.Time) {
	if r.Err != nil && !m.stopped && m.drain.retry.err == nil {
		m.hookFailed = &HookFailed{HookCancelled, m.triggers.version, r.Err.Error(), now}
	}
	if m.drain.retry.note(now, r.Err, m.rand) {
		m.drain.begun, m.drain.done = false, false
	}
}
