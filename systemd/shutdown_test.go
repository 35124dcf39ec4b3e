package systemd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/test/bustest"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/ptytest"
)

const accessDenied = "org.freedesktop.DBus.Error.AccessDenied"

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
	// One that is too long to be read hides nothing else.
	logind.SetShutdown(bustest.Shutdown{Type: "poweroff", At: at, Message: strings.Repeat("x", 300<<10)})
	if s, err := l.Scheduled(t.Context()); err != nil || s.Type != "poweroff" || !s.At.Equal(at) {
		t.Errorf("with a long message: %+v, %v", s, err)
	}
	// A message that stayed behind does not make a shutdown.
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
	must.Do(t, l.Reboot(t.Context(), false))
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
	logind.Refuse("ScheduleShutdown", accessDenied, "not you")
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
	logind.Refuse("SetWallMessage", accessDenied, "be quiet")
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

// Since systemd 257 a shutdown is not even scheduled while one blocks it.
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
	logind.SetShutdown(bustest.Shutdown{Message: "of somebody who set it and has not scheduled yet"})
	if err := l.Cancel(t.Context()); err != nil {
		t.Errorf("nothing is scheduled: %v", err)
	}
	if m := message(t, l); m == "" {
		t.Error("a message that nothing was cancelled for is gone")
	}
	must.Do(t, l.Schedule(t.Context(), time.Now().Add(time.Hour), "soon"))
	must.Do(t, l.Cancel(t.Context()))
	if s := logind.Shutdown(); s.Type != "" {
		t.Errorf("%+v is scheduled still", s)
	}
	if m := message(t, l); m != "" {
		t.Errorf("the message %q stayed", m)
	}
	must.Do(t, l.Schedule(t.Context(), time.Now().Add(time.Hour), "soon"))
	logind.Refuse("CancelScheduledShutdown", accessDenied, "not you")
	if err := l.Cancel(t.Context()); !errors.Is(err, ErrRefused) {
		t.Errorf("got %v", err)
	}
}

// No answer is no refusal: it may be scheduled, or cancelled.
func TestNoAnswerAboutAScheduleLeavesItOpen(t *testing.T) {
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

func TestRebootHeedsInhibitorsUnlessForced(t *testing.T) {
	ours, theirs := bustest.Inhibitor{Who: "root's"}, bustest.Inhibitor{Who: "ann's", UID: 1000}
	weak := bustest.Inhibitor{Who: "ann's", UID: 1000, Mode: "block-weak"}
	for _, test := range []struct {
		name      string
		version   int
		rule      bool // polkit lets root skip inhibitors
		inhibitor bustest.Inhibitor
		force     bool
		accepted  bool
		flags     uint64 // of the call that is accepted
		unit      string // systemd is asked to start it
	}{
		{"without RebootWithFlags", 245, false, theirs, false, true, 0, ""},
		{"without RebootWithFlags, forced", 245, false, theirs, true, true, 0, ""},
		{"another user's", 252, false, theirs, false, false, 0, ""},
		{"another user's, forced", 252, false, theirs, true, true, 0, ""},
		{"of root, which this logind ignores", 252, false, ours, false, true, 1, ""},
		{"strong", 257, false, ours, false, false, 0, ""},
		{"strong, forced", 257, false, ours, true, true, 0, "reboot.target"},
		{"strong, forced, by a rule of polkit's", 257, true, ours, true, true, 16, ""},
		{"weak", 257, false, weak, false, false, 0, ""},
		{"weak, forced", 257, false, weak, true, true, 16, ""},
		{"none", 257, false, bustest.Inhibitor{Mode: "delay"}, false, true, 1, ""},
		{"none, forced", 257, false, bustest.Inhibitor{Mode: "delay"}, true, true, 16, ""},
		{"strong, newer", 262, false, ours, false, false, 0, ""},
		{"strong, newer, forced", 262, false, ours, true, true, 0, "reboot.target"},
	} {
		t.Run(test.name, func(t *testing.T) {
			bus, conn := systemBus(t)
			logind := bustest.For(t).Logind(bus)
			must.Do(t, logind.SetVersion(test.version))
			if test.rule {
				logind.LetRootSkip()
			}
			logind.SetInhibitors(test.inhibitor)
			err := NewLogind(conn).Reboot(t.Context(), test.force)
			if accepted := err == nil; accepted != test.accepted || err != nil && !errors.Is(err, ErrRefused) {
				t.Fatalf("got %v", err)
			}
			var accepted []bustest.RebootCall
			for len(logind.Reboots()) > 0 {
				if call := <-logind.Reboots(); call.Accepted {
					accepted = append(accepted, call)
				}
			}
			if test.accepted && (len(accepted) != 1 || accepted[0].Flags != test.flags || accepted[0].Unit != test.unit || accepted[0].Interactive) {
				t.Errorf("accepted: %+v", accepted)
			}
		})
	}
}

// Only an inhibitor is passed over, not whatever else logind has against a reboot.
func TestAnotherRefusalOfAForcedRebootIsNotPassedOver(t *testing.T) {
	bus, conn := systemBus(t)
	logind := bustest.For(t).Logind(bus)
	l := NewLogind(conn)
	must.Do(t, logind.SetVersion(257))
	refused := func(why string) {
		t.Helper()
		if err := l.Reboot(t.Context(), true); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: got %v", why, err)
		}
		for len(logind.Reboots()) > 0 {
			if call := <-logind.Reboots(); call.Unit != "" {
				t.Errorf("%s: %+v", why, call)
			}
		}
	}
	logind.Refuse("Reboot", accessDenied, "not you")
	logind.SetInhibitors(bustest.Inhibitor{Who: "film", What: "sleep"}, bustest.Inhibitor{Who: "modem", Mode: "delay"})
	refused("no inhibitor blocks")
	logind.SetInhibitors(bustest.Inhibitor{Who: "backup"})
	logind.Refuse("Reboot", "org.freedesktop.login1.OperationInProgress", "already")
	refused("one is under way")
	logind.Heal("Reboot")
	logind.Refuse("BlockInhibited", accessDenied, "not you")
	refused("logind does not say whether an inhibitor blocks")
}

// What systemd answers is as good as logind's: a no is a no, and silence leaves it open.
func TestSystemdsAnswerToAForcedRebootCounts(t *testing.T) {
	bus, conn := systemBus(t)
	logind := bustest.For(t).Logind(bus)
	l := NewLogind(conn)
	must.Do(t, logind.SetVersion(257))
	logind.SetInhibitors(bustest.Inhibitor{Who: "backup"})
	logind.Refuse("StartUnit", "org.freedesktop.systemd1.TransactionIsDestructive", "poweroff.target is on its way")
	if err := l.Reboot(t.Context(), true); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "poweroff.target is on its way") {
		t.Errorf("refused: got %v", err)
	}
	logind.Hang("StartUnit")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := l.Reboot(ctx, true); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrRefused) {
		t.Errorf("no answer: got %v", err)
	}
}

func TestOtherSessionsAreThoseOfOthers(t *testing.T) {
	bus, conn := systemBus(t)
	logind := bustest.For(t).Logind(bus)
	l := NewLogind(conn)
	program, _ := ptytest.Open(t)
	pty, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", program.Fd()))
	must.Do(t, err)
	pty = strings.TrimPrefix(pty, "/dev/")
	must.Do(t, logind.SetSessions(
		bustest.Session{ID: "1", Name: "ann", TTY: "tty1"},
		bustest.Session{ID: "2", Name: "root", TTY: "tty2"},
		bustest.Session{ID: "3", Name: "root", TTY: pty},
		bustest.Session{ID: "4", Name: "bob"},
		bustest.Session{ID: "5", Name: "cron", Class: "background"},
		bustest.Session{ID: "6", Name: "root", TTY: "tty2", Class: "background-light"},
	))
	want := func(why string, ids ...string) {
		t.Helper()
		others, err := l.OtherSessions(t.Context())
		var got []string
		for _, s := range others {
			got = append(got, s.ID)
		}
		if err != nil || !slices.Equal(got, ids) {
			t.Errorf("%s: %q, %v, want %q", why, got, err, ids)
		}
	}
	want("a service", "1", "2", "3", "4")
	logind.SetOwnSession("4")
	want("a session without a terminal", "1", "2", "3")
	logind.SetOwnSession("2")
	want("a session with one", "1", "3", "4")
	logind.SetOwnSession("6")
	want("by run0 on the caller's terminal", "1", "3", "4")
	logind.SetOwnSession("3")
	want("on a terminal of which nobody knows who holds it", "1", "2", "4")
	logind.SetSessionOf(uint32(os.Getpid()), "2") // which has its other end
	want("by run0 on a terminal of its own", "1", "4")
	logind.SetOwnSession("")
	for _, name := range []string{"System.Error.EUNATCH", "System.Error.ENXIO", "org.freedesktop.DBus.Error.UnixProcessIdUnknown"} {
		logind.Refuse("GetSessionByPID", name, "Protocol driver not attached")
		want(name, "1", "2", "3", "4")
	}
	logind.Refuse("GetSessionByPID", accessDenied, "no")
	if others, err := l.OtherSessions(t.Context()); err == nil {
		t.Errorf("refused: %v", others)
	}
	logind.Heal("GetSessionByPID")
	logind.SetOwnSession("1")
	must.Do(t, logind.Vanish("1"))
	if others, err := l.OtherSessions(t.Context()); err == nil {
		t.Errorf("a session that is not there: %v", others)
	}
}

// Containers number their terminals for themselves.
func TestTerminalOfAContainerIsAnother(t *testing.T) {
	proc := t.TempDir()
	for pid, namespace := range map[string]string{"self": "mnt:[1]", "7": "mnt:[1]", "8": "mnt:[2]", "9": "mnt:[1]", "10": "mnt:[1]"} {
		must.Do(t, os.MkdirAll(proc+"/"+pid+"/ns", 0o755))
		must.Do(t, os.MkdirAll(proc+"/"+pid+"/fdinfo", 0o755))
		must.Do(t, os.Symlink(namespace, proc+"/"+pid+"/ns/mnt"))
		number := map[string]string{"9": "31", "10": "1"}[pid]
		if number == "" {
			number = "3"
		}
		must.Do(t, os.WriteFile(proc+"/"+pid+"/fdinfo/5", []byte("pos:\t0\nflags:\t02\ntty-index:\t"+number+"\n"), 0o644))
	}
	if got := masters(proc, "pts/3"); !slices.Equal(got, []uint32{7}) {
		t.Errorf("got %v", got)
	}
	if got := masters(proc, "tty3"); len(got) > 0 {
		t.Errorf("no pseudo-terminal: %v", got)
	}
}
