package systemd

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/test/bustest"
	"github.com/locksmithd/locksmith/test/must"
)

func TestScheduledShutdownIsShown(t *testing.T) {
	bus, conn := systemBus(t)
	logind := bustest.For(t).Logind(bus)
	l := NewLogind(conn)
	if s, err := l.Scheduled(t.Context()); err != nil || s != (Shutdown{}) {
		t.Errorf("nothing is scheduled: %+v, %v", s, err)
	}
	at := time.Now().Add(time.Hour).Truncate(time.Microsecond)
	logind.SetShutdown(bustest.Shutdown{Type: "poweroff", At: at, Message: "disks are swapped"})
	s, err := l.Scheduled(t.Context())
	if err != nil || s.Type != "poweroff" || !s.At.Equal(at) || s.Message != "disks are swapped" {
		t.Errorf("got %+v, %v", s, err)
	}
	// A message that is too long to be read hides nothing else.
	logind.SetShutdown(bustest.Shutdown{Type: "poweroff", At: at, Message: strings.Repeat("x", 300<<10)})
	if s, err := l.Scheduled(t.Context()); err != nil || s.Type != "poweroff" || !s.At.Equal(at) {
		t.Errorf("with a long message: %+v, %v", s, err)
	}
	// A message of an earlier shutdown is not a shutdown.
	logind.SetShutdown(bustest.Shutdown{Message: "disks are swapped"})
	if s, err := l.Scheduled(t.Context()); err != nil || s != (Shutdown{}) {
		t.Errorf("only a message is left: %+v, %v", s, err)
	}
}

// logind shows a reboot that has begun as one that is scheduled for no time.
func TestRebootThatHasBegunIsScheduledWithoutATime(t *testing.T) {
	bus, conn := systemBus(t)
	bustest.For(t).Logind(bus)
	l := NewLogind(conn)
	_, err := l.Reboot(t.Context(), FullReboot, false)
	must.Do(t, err)
	if s, err := l.Scheduled(t.Context()); err != nil || s.Type != "reboot" || !s.At.IsZero() {
		t.Errorf("got %+v, %v", s, err)
	}
}

func TestScheduleTellsUsersAndReplacesWhatIsScheduled(t *testing.T) {
	bus, conn := systemBus(t)
	logind := bustest.For(t).Logind(bus)
	l := NewLogind(conn)
	logind.SetShutdown(bustest.Shutdown{Type: "poweroff", At: time.Now(), Message: "old"})
	at := time.Now().Add(time.Hour).Truncate(time.Microsecond)
	must.Do(t, l.Schedule(t.Context(), at, "System reboot in 1 hour!\nWhy not?"))
	asked := <-logind.Schedules()
	if asked.Type != "reboot" || !asked.At.Equal(at) || asked.Message != "System reboot in 1 hour!\nWhy not?" {
		t.Errorf("asked for %+v", asked)
	}
	if s, err := l.Scheduled(t.Context()); err != nil || s.Type != "reboot" || !s.At.Equal(at) || !strings.HasPrefix(s.Message, "System reboot in 1 hour!") {
		t.Errorf("got %+v, %v", s, err)
	}
	must.Do(t, logind.Execute())
	if call := <-logind.Reboots(); !call.Scheduled {
		t.Errorf("rebooted by %+v", call)
	}
}

func TestScheduleThatIsRefusedLeavesNoMessage(t *testing.T) {
	bus, conn := systemBus(t)
	logind := bustest.For(t).Logind(bus)
	l := NewLogind(conn)
	logind.Refuse("ScheduleShutdown", errAccessDenied, "not you")
	if err := l.Schedule(t.Context(), time.Now(), "soon"); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "not you") {
		t.Errorf("got %v", err)
	}
	logind.SetShutdown(bustest.Shutdown{Type: "reboot", Message: message(t, l)})
	if s := logind.Shutdown(); s.Message != "" {
		t.Errorf("the message %q stayed", s.Message)
	}

	// Without a message nothing is scheduled: users would not know why.
	logind.SetShutdown(bustest.Shutdown{})
	logind.Heal("ScheduleShutdown")
	logind.Refuse("SetWallMessage", errAccessDenied, "be quiet")
	if err := l.Schedule(t.Context(), time.Now(), "soon"); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "be quiet") {
		t.Errorf("got %v", err)
	}
	if s := logind.Shutdown(); s.Type != "" {
		t.Errorf("%+v is scheduled", s)
	}
}

// message returns the message that logind has, scheduled or not.
func message(t *testing.T, l *Logind) string {
	t.Helper()
	text, err := property[string](t.Context(), l, logindPath, logindManager, "WallMessage")
	must.Do(t, err)
	return text
}

// Since systemd 257 a shutdown cannot even be scheduled while an inhibitor blocks it.
func TestScheduleIsRefusedWhileAnInhibitorBlocks(t *testing.T) {
	bus, conn := systemBus(t)
	logind := bustest.For(t).Logind(bus)
	must.Do(t, logind.SetVersion(257))
	logind.SetInhibitors(bustest.Inhibitor{Who: "backup"})
	if err := NewLogind(conn).Schedule(t.Context(), time.Now(), "soon"); !errors.Is(err, ErrRefused) {
		t.Errorf("got %v", err)
	}
}

func TestCancel(t *testing.T) {
	bus, conn := systemBus(t)
	logind := bustest.For(t).Logind(bus)
	l := NewLogind(conn)
	logind.SetShutdown(bustest.Shutdown{Message: "set by a user who has not scheduled the shutdown yet"})
	if err := l.Cancel(t.Context()); err != nil {
		t.Errorf("nothing is scheduled: %v", err)
	}
	if m := message(t, l); m == "" {
		t.Error("nothing was cancelled, and the message is gone")
	}
	must.Do(t, l.Schedule(t.Context(), time.Now().Add(time.Hour), "soon"))
	must.Do(t, l.Cancel(t.Context()))
	if s := logind.Shutdown(); s.Type != "" {
		t.Errorf("%+v is still scheduled", s)
	}
	if m := message(t, l); m != "" {
		t.Errorf("the message %q stayed", m)
	}
	must.Do(t, l.Schedule(t.Context(), time.Now().Add(time.Hour), "soon"))
	logind.Refuse("CancelScheduledShutdown", errAccessDenied, "not you")
	if err := l.Cancel(t.Context()); !errors.Is(err, ErrRefused) {
		t.Errorf("got %v", err)
	}
}

// Without an answer the outcome is unknown: the reboot may be scheduled, or cancelled.
func TestNoAnswerAboutAScheduleIsNotARefusal(t *testing.T) {
	for method, ask := range map[string]func(context.Context, *Logind) error{
		"ScheduleShutdown":        func(ctx context.Context, l *Logind) error { return l.Schedule(ctx, time.Now(), "soon") },
		"CancelScheduledShutdown": func(ctx context.Context, l *Logind) error { return l.Cancel(ctx) },
		"ScheduledShutdown":       func(ctx context.Context, l *Logind) error { _, err := l.Scheduled(ctx); return err },
		"BlockInhibited":          func(ctx context.Context, l *Logind) error { _, err := l.Inhibitors(ctx); return err },
		"GetSessionByPID":         func(ctx context.Context, l *Logind) error { _, err := l.OtherSessions(ctx); return err },
	} {
		t.Run(method, func(t *testing.T) {
			bus, conn := systemBus(t)
			bustest.For(t).Logind(bus).Hang(method)
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			if err := ask(ctx, NewLogind(conn)); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrRefused) {
				t.Errorf("got %v, want the deadline", err)
			}
		})
	}
}
