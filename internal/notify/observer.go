package notify

import (
	"strings"

	"github.com/locksmithd/locksmith/internal/policy"
)

// Observer makes events of what the daemon does. It is a daemon.Observer.
type Observer struct {
	// Boot is the id of this boot.
	Boot string
	// Add delivers an event, to which it adds the host and its group. It does not block.
	Add func(Event)
	// Forget has the next events of these types delivered whatever they are about.
	Forget func(...Type)

	last policy.Snapshot
}

// Observe sends what is new since the last call.
func (o *Observer) Observe(s policy.Snapshot, _ string, moves []policy.Move) {
	was := o.last
	o.last = s
	if h := s.HookFailed; h != nil && (was.HookFailed == nil || !h.At.Equal(was.HookFailed.At)) {
		o.Add(Event{
			Type: HookFailed, Time: h.At, Hook: h.Hook, Version: h.Version, Reason: h.Error,
			Once: h.Hook + " " + h.Version + " " + h.Error,
		})
	}
	for _, move := range moves {
		if move.To == policy.Rebooting {
			o.Forget(HookFailed, AttemptsUsedUp) // they would be news after another attempt
			o.Add(Event{Type: RebootBegins, Time: s.Since, Version: s.Need.Version, Reason: strings.Join(s.Need.Reasons, ", ")})
		}
	}
	if w := s.Well; w != nil && (was.Well == nil || !w.At.Equal(was.Well.At)) {
		o.Add(Event{Type: BackAndWell, Time: w.At, Version: w.Version, Once: o.Boot + " " + w.Version})
	}
	if h := s.Health; h != nil && h.Unwell && !(was.Health != nil && was.Health.Unwell) {
		o.Add(Event{Type: Unwell, Version: h.Version, Reason: h.Retry.Error, Once: o.Boot + " " + h.Version})
	}
	if h := s.Health; h != nil && stops(h) && !(was.Health != nil && stops(was.Health)) {
		o.Add(Event{Type: RolloutStopped, Version: h.Version, Reason: h.Retry.Error, Once: o.Boot + " " + h.Version})
	}
	if by := s.HeldBack; by != nil && by.Kind == policy.Attempts && !(was.HeldBack != nil && was.HeldBack.Kind == policy.Attempts && was.Need.Version == s.Need.Version) {
		o.Add(Event{Type: AttemptsUsedUp, Version: s.Need.Version, Reason: "held back by " + by.Text, Once: s.Need.Version + " "})
	}
}

// stops reports whether no host goes on that waits for the version.
func stops(h *policy.Health) bool { return h.Unwell && h.Pauses && h.Told && h.Version != "" }
