package daemon

import (
	"github.com/locksmithd/locksmith/internal/journal"
	"github.com/locksmithd/locksmith/internal/policy"
)

// log tells the log what the machine has come to, if that is new.
func (l *loop) log(s policy.Snapshot, line string, moves []policy.Move) {
	for _, move := range moves {
		facts := l.facts(s, entered(move.To), move.Why)
		facts.State, facts.From = move.To.String(), move.From.String()
		l.parts.Log.Info(move.To.String(), "from", move.From, "why", move.Why, "status", line, facts.Attr())
	}
	if len(moves) > 0 {
		l.heldBy = ""
	}
	if by := s.HeldBack; by != nil && by.Text != l.heldBy { // it is unknown while the gates are asked again
		l.heldBy = by.Text
		id := journal.HeldBack
		if by.Kind == policy.Attempts {
			id = journal.AttemptsUsed
		}
		l.parts.Log.Info("held back", "by", by.Text, "status", line, l.facts(s, id, by.Text).Attr())
	}
	if h, before := s.Health, l.observed.Health; h != nil && h.Unwell && (before == nil || !before.Unwell) {
		facts := l.facts(s, journal.HostUnwell, h.Retry.Error)
		facts.Version = h.Version
		l.parts.Log.Warn("this host is unwell after its reboot", "version", h.Version, "error", h.Retry.Error, "status", line,
			facts.Attr())
	}
}

// logFailure tells the log that the effect that ran has failed.
func (l *loop) logFailure(err error) {
	facts := l.facts(l.observed, failed(l.running), err.Error())
	if h := l.observed.Health; h != nil && facts.ID == journal.CheckFailed {
		facts.Version = h.Version
	}
	l.parts.Log.Warn(l.running.Name+" failed", "error", err, facts.Attr())
}

// facts returns what a line is about.
func (l *loop) facts(s policy.Snapshot, id journal.MessageID, reason string) journal.Facts {
	return journal.Facts{ID: id, State: s.State.String(), Group: l.settings.Group, Version: s.Need.Version, Reason: reason}
}

// entered returns the message ID of having entered a state.
func entered(s policy.State) journal.MessageID {
	switch s {
	case policy.Settling:
		return journal.EnteredSettling
	case policy.Idle:
		return journal.EnteredIdle
	case policy.Waiting:
		return journal.EnteredWaiting
	case policy.Locking:
		return journal.EnteredLocking
	case policy.Preparing:
		return journal.EnteredPreparing
	case policy.Rebooting:
		return journal.EnteredRebooting
	case policy.Releasing:
		return journal.EnteredReleasing
	case policy.Left:
		return journal.EnteredLeft
	}
	return "" // nothing enters the state of the start
}

// failed returns the message ID of the failure of an effect.
func failed(k policy.Kind) journal.MessageID {
	switch k {
	case policy.Reboot{}.Kind():
		return journal.RebootFailed
	case policy.Drain{}.Kind(), policy.Undrain{}.Kind():
		return journal.HookFailed
	case policy.Verify{}.Kind():
		return journal.CheckFailed
	}
	return journal.EffectFailed
}
