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
	must.Do(t, l.Reboot(t.Context(), false))
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
		err := l.Reboot(t.Context(), false)
		if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	logind.Heal("Reboot")
	if err := l.Reboot(t.Context(), false); err != nil {
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
		err := NewLogind(conn).Reboot(ctx, false)
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
		if err := NewLogind(conn).Reboot(t.Context(), false); err == nil || errors.Is(err, ErrRefused) {
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
		if err := NewLogind(conn).Reboot(t.Context(), false); err == nil || errors.Is(err, ErrRefused) {
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

// Force overrides an inhibitor, and no other reason for which logind refuses a reboot.
func TestAnotherRefusalOfAForcedRebootIsNotOverridden(t *testing.T) {
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
