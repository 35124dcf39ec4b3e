package daemon

import (
	"context"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/internal/policy"
)

func TestCallOffOfWhatADaemonHasLeft(t *testing.T) {
	const (
		untouched = "untouched" // the reboot stands, and so does what was kept
		untold    = "untold"    // the reboot stands, but users do not count as told any more
		gone      = "gone"
	)
	for name, c := range map[string]struct {
		set   func(*site)
		want  string
		fails bool
	}{
		"it stands":          {func(*site) {}, gone, false},
		"it is gone":         {func(s *site) { s.scheduled = policy.Shutdown{} }, untouched, false},
		"somebody else's":    {func(s *site) { s.scheduled.At = s.began }, untouched, false},
		"it is a poweroff":   {func(s *site) { s.scheduled.Type = "poweroff" }, untouched, false},
		"logind is silent":   {func(s *site) { s.lookErr = errDown }, untouched, true},
		"the reply is lost":  {func(s *site) { s.planErr, s.lost = errDown, true }, gone, false},
		"the cancel fails":   {func(s *site) { s.planErr = errDown }, untold, true},
		"it stays scheduled": {func(s *site) { s.parts.Host = stubborn{s} }, untold, true},
		"keeping fails":      {func(s *site) { s.keepErr = errDown }, untouched, true},
		"the host goes down": {func(s *site) {
			s.lookErr = errDown
			s.goingDown = func(context.Context) (bool, error) { return true, nil }
		}, untouched, false},
		"unknown whether the host goes down": {func(s *site) {
			s.goingDown = func(context.Context) (bool, error) { return false, errDown }
		}, gone, false},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T, s *site) {
				s.left(s.began.Add(time.Hour))
				s.parts.Found.Kept.Cancelled = s.began
				s.kept = *s.parts.Found.Kept
				c.set(s)
				before := s.scheduled
				done, err := CallOff(t.Context(), s.parts.Host, s.kept, s.parts.Keep)
				if done != (c.want == gone) || (err != nil) != c.fails {
					t.Errorf("done %v, %v", done, err)
				}
				kept := *s.parts.Found.Kept
				switch c.want {
				case untold:
					kept.Scheduled.Announced = false
				case gone:
					before, kept.Scheduled = policy.Shutdown{}, policy.KeptSchedule{}
				}
				if s.scheduled != before {
					t.Errorf("scheduled is %+v, want %+v", s.scheduled, before)
				}
				if s.kept != kept {
					t.Errorf("kept is %+v, want %+v", s.kept, kept)
				}
			})
		})
	}
}
