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

func TestRebootAsksLogindWithoutInteraction(t *testing.T) {
	bus, conn := systemBus(t)
	logind := bustest.For(t).Logind(bus)
	l := NewLogind(conn)
	if down, err := l.GoingDown(t.Context()); err != nil || down {
		t.Errorf("before: %v, %v", down, err)
	}
	_, err := l.Reboot(t.Context(), FullReboot, false)
	must.Do(t, err)
	call := <-logind.Reboots()
	if call.Interactive || call.Flags != rootCheckInhibitors || call.Sender != conn.Names()[0] {
		t.Errorf("call: %+v", call)
	}
	if down, err := l.GoingDown(t.Context()); err != nil || !down {
		t.Errorf("after: %v, %v", down, err)
	}
}

func TestLogindsRefusalIsAnError(t *testing.T) {
	bus, conn := systemBus(t)
	logind := bustest.For(t).Logind(bus)
	l := NewLogind(conn)
	for _, name := range []string{
		"org.freedesktop.DBus.Error.AccessDenied",
		"org.freedesktop.DBus.Error.InteractiveAuthorizationRequired",
		"org.freedesktop.login1.OperationInProgress",
		"org.freedesktop.login1.SleepVerbNotSupported",
	} {
		logind.Refuse("Reboot", name, "Permission denied")
		_, err := l.Reboot(t.Context(), FullReboot, false)
		if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	logind.Heal("Reboot")
	if _, err := l.Reboot(t.Context(), FullReboot, false); err != nil {
		t.Errorf("once logind agrees: %v", err)
	}
}

// Without an answer the outcome is unknown: the reboot may have started.
func TestNoAnswerFromLogindIsNotARefusal(t *testing.T) {
	t.Run("it hangs", func(t *testing.T) {
		bus, conn := systemBus(t)
		bustest.For(t).Logind(bus).Hang("Reboot")
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err := NewLogind(conn).Reboot(ctx, FullReboot, false)
		if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrRefused) {
			t.Errorf("got %v, want the deadline", err)
		}
	})
	t.Run("it dies meanwhile", func(t *testing.T) {
		bus, conn := systemBus(t)
		logind := bustest.For(t).Logind(bus)
		logind.Hang("Reboot")
		go func() {
			<-logind.Reboots()
			_ = logind.Leave()
		}()
		if _, err := NewLogind(conn).Reboot(t.Context(), FullReboot, false); err == nil || errors.Is(err, ErrRefused) {
			t.Errorf("got %v, want an error other than a refusal", err)
		}
	})
	t.Run("the bus goes away meanwhile", func(t *testing.T) {
		bus, conn := systemBus(t)
		logind := bustest.For(t).Logind(bus)
		logind.Hang("Reboot")
		go func() {
			<-logind.Reboots()
			_ = bus.Kill()
		}()
		if _, err := NewLogind(conn).Reboot(t.Context(), FullReboot, false); err == nil || errors.Is(err, ErrRefused) {
			t.Errorf("got %v, want an error other than a refusal", err)
		}
	})
}

func TestRebootObeysInhibitorsUnlessForced(t *testing.T) {
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
		unit      string // that systemd is asked to start
	}{
		{"without RebootWithFlags", 245, false, theirs, false, true, 0, ""},
		{"without RebootWithFlags, forced", 245, false, theirs, true, true, 0, ""},
		{"another user's", 252, false, theirs, false, false, 0, ""},
		{"another user's, forced", 252, false, theirs, true, true, 0, ""},
		{"of root, which this logind ignores", 252, false, ours, false, true, 1, ""},
		{"strong", 257, false, ours, false, false, 0, ""},
		{"strong, forced", 257, false, ours, true, true, 0, "reboot.target"},
		{"strong, forced, allowed by polkit", 257, true, ours, true, true, 16, ""},
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
			_, err := NewLogind(conn).Reboot(t.Context(), FullReboot, test.force)
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

// Force overrides an inhibitor, and no other reason for which logind refuses a reboot.
func TestAnotherRefusalOfAForcedRebootIsNotOverridden(t *testing.T) {
	bus, conn := systemBus(t)
	logind := bustest.For(t).Logind(bus)
	l := NewLogind(conn)
	must.Do(t, logind.SetVersion(257))
	refused := func(why string) {
		t.Helper()
		if _, err := l.Reboot(t.Context(), FullReboot, true); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: got %v", why, err)
		}
		for len(logind.Reboots()) > 0 {
			if call := <-logind.Reboots(); call.Unit != "" {
				t.Errorf("%s: %+v", why, call)
			}
		}
	}
	logind.Refuse("Reboot", errAccessDenied, "not you")
	logind.SetInhibitors(bustest.Inhibitor{Who: "film", What: "sleep"}, bustest.Inhibitor{Who: "modem", Mode: "delay"})
	refused("no inhibitor blocks")
	logind.SetInhibitors(bustest.Inhibitor{Who: "backup"})
	logind.Refuse("Reboot", "org.freedesktop.login1.OperationInProgress", "already")
	refused("one is under way")
	logind.Heal("Reboot")
	logind.Refuse("BlockInhibited", errAccessDenied, "not you")
	refused("logind does not say whether an inhibitor blocks")
}

// systemd's answer counts as logind's does: a no is a refusal, and without an answer the outcome is unknown.
func TestSystemdsAnswerToAForcedRebootCounts(t *testing.T) {
	bus, conn := systemBus(t)
	logind := bustest.For(t).Logind(bus)
	l := NewLogind(conn)
	must.Do(t, logind.SetVersion(257))
	logind.SetInhibitors(bustest.Inhibitor{Who: "backup"})
	logind.Refuse("StartUnit", "org.freedesktop.systemd1.TransactionIsDestructive", "poweroff.target is on its way")
	if _, err := l.Reboot(t.Context(), FullReboot, true); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "poweroff.target is on its way") {
		t.Errorf("refused: got %v", err)
	}
	logind.Hang("StartUnit")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := l.Reboot(ctx, FullReboot, true); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrRefused) {
		t.Errorf("no answer: got %v", err)
	}
}

func TestRebootInAMode(t *testing.T) {
	strong := bustest.Inhibitor{Who: "root's"}
	for _, test := range []struct {
		name      string
		version   int
		old       bool // logind is older than systemd
		mode      Mode
		force     bool
		inhibitor bustest.Inhibitor
		done      Mode
		flags     uint64 // of the call that is accepted
		unit      string // that systemd is asked to start
	}{
		{name: "soft", version: 257, mode: SoftReboot, done: SoftReboot, flags: 4 | 1},
		{name: "soft, forced", version: 257, mode: SoftReboot, force: true, done: SoftReboot, flags: 4 | 16},
		{name: "soft, forced, before skipInhibitors", version: 256, mode: SoftReboot, force: true, done: SoftReboot, flags: 4},
		{name: "soft, forced, strong", version: 257, mode: SoftReboot, force: true, inhibitor: strong, done: SoftReboot, unit: "soft-reboot.target"},
		{name: "soft, old logind", version: 257, old: true, mode: SoftReboot, flags: 1},
		{name: "soft, forced, old logind", version: 256, old: true, mode: SoftReboot, force: true},
		{name: "soft, forced, strong, old logind", version: 257, old: true, mode: SoftReboot, force: true, inhibitor: strong, unit: "reboot.target"},
		{name: "kexec", version: 252, mode: Kexec, done: Kexec, flags: 2 | 1},
		{name: "kexec, forced", version: 252, mode: Kexec, force: true, done: Kexec, flags: 2},
		{name: "kexec, forced, strong", version: 257, mode: Kexec, force: true, inhibitor: strong, done: Kexec, unit: "kexec.target"},
		{name: "kexec, without RebootWithFlags", version: 245, mode: Kexec},
	} {
		t.Run(test.name, func(t *testing.T) {
			bus, conn := systemBus(t)
			logind := bustest.For(t).Logind(bus)
			must.Do(t, logind.SetVersion(test.version))
			logind.SetOld(test.old)
			if test.inhibitor.Who != "" {
				logind.SetInhibitors(test.inhibitor)
			}
			done, err := NewLogind(conn).Reboot(t.Context(), test.mode, test.force)
			if must.Do(t, err); done != test.done {
				t.Errorf("the mode is %q, want %q", done, test.done)
			}
			var accepted []bustest.RebootCall
			for len(logind.Reboots()) > 0 {
				if call := <-logind.Reboots(); call.Accepted {
					accepted = append(accepted, call)
				}
			}
			if len(accepted) != 1 || accepted[0].Flags != test.flags || accepted[0].Unit != test.unit {
				t.Errorf("accepted: %+v", accepted)
			}
		})
	}
}

// logind forgets what is scheduled when it is asked for a reboot, but not when systemd is, and a soft reboot leaves the
// file from which logind restores it.
func TestSoftRebootBySystemdLeavesNothingScheduled(t *testing.T) {
	bus, conn := systemBus(t)
	logind := bustest.For(t).Logind(bus)
	must.Do(t, logind.SetVersion(257))
	logind.SetInhibitors(bustest.Inhibitor{Who: "root's"})
	reboot := func(mode Mode) string {
		t.Helper()
		logind.SetShutdown(bustest.Shutdown{Type: "reboot", At: time.Now().Add(time.Hour)})
		_, err := NewLogind(conn).Reboot(t.Context(), mode, true)
		must.Do(t, err)
		return logind.Shutdown().Type
	}
	if left := reboot(SoftReboot); left != "" {
		t.Errorf("after the soft reboot a %s is scheduled", left)
	}
	if left := reboot(FullReboot); left != "reboot" {
		t.Errorf("before the full reboot %q is scheduled: if systemd does not answer, nothing is left", left)
	}
}
