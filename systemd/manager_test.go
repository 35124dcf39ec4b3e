package systemd

import (
	"testing"

	"github.com/locksmithd/locksmith/test/bustest"
)

func TestStoppingSystemIsDetectedWithoutLogind(t *testing.T) {
	bus := bustest.For(t).Bus(bustest.System)
	conn := bustest.For(t).Connect(bus)
	l := NewLogind(conn)
	if _, err := l.GoingDown(t.Context()); err == nil {
		t.Error("without systemd: no error")
	}
	m := bustest.For(t).Logind(bus)
	for _, want := range []bool{false, true, false} {
		m.SetStopping(want)
		if down, err := l.GoingDown(t.Context()); err != nil || down != want {
			t.Errorf("going down: %v, %v, want %v", down, err, want)
		}
	}
	m.Refuse("PreparingForShutdown", errAccessDenied, "not today")
	for _, want := range []bool{true, false} { // without logind systemd's yes counts, and its no does not
		m.SetStopping(want)
		if down, err := l.GoingDown(t.Context()); down != want || (err == nil) != want {
			t.Errorf("going down, and logind refuses to answer: %v, %v, want %v", down, err, want)
		}
	}
	m.Heal("PreparingForShutdown")
	m.Refuse("SystemState", errAccessDenied, "not today")
	if _, err := l.GoingDown(t.Context()); err == nil {
		t.Error("systemd refuses to answer, and there is no error")
	}
}

func TestJobOfTheOwnUnitShowsARestart(t *testing.T) {
	bus := bustest.For(t).Bus(bustest.System)
	conn := bustest.For(t).Connect(bus)
	if _, err := Restarting(t.Context(), conn); err == nil {
		t.Error("without systemd: no error")
	}
	m := bustest.For(t).Logind(bus)
	for job, want := range map[string]bool{"": false, "stop": false, "start": true, "restart": true, "try-restart": true, "reload-or-start": true} {
		m.SetUnitJob(job)
		if restarting, err := Restarting(t.Context(), conn); err != nil || restarting != want {
			t.Errorf("job %q: %v, %v", job, restarting, err)
		}
	}
	m.SetUnitJob("restart")
	for _, part := range []string{"GetUnitByPID", "Job", "JobType"} {
		m.Refuse(part, errAccessDenied, "not today")
		if _, err := Restarting(t.Context(), conn); err == nil {
			t.Errorf("%s is refused, and there is no error", part)
		}
		m.Heal(part)
	}
}
