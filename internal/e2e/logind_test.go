package e2e

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/locksmithd/locksmith/internal/bustest"
	"github.com/locksmithd/locksmith/internal/etcdtest"
)

const accessDenied = "org.freedesktop.DBus.Error.AccessDenied"

// logind's refusal is logged, the lock released, and it is tried again later.
func TestRebootRefusedByLogindReleasesTheLockAndIsTriedAgain(t *testing.T) {
	t.Parallel()
	forEachEtcd(t, func(t *testing.T, s *etcdtest.Server) {
		g := newGroup(t, s)
		h := newHost(t, g.conf())
		h.Logind.Refuse("Reboot", accessDenied, "not today")
		h.Engine.Set(needReboot)
		h.start()
		h.awaitReboot()
		h.awaitStatus("waiting", "trying again", "not today")
		h.awaitLog("level=WARN", "not today")
		g.awaitHolders()
		h.wantCoordinator("etcd-lock", "reboot-planned")
		h.awaitReboot() // again
		h.Logind.Heal("Reboot")
		for !h.awaitReboot().Accepted { // it may have asked in between
		}
		g.awaitHolders(h.id)
	})
}

// The same without a lock.
func TestRebootRefusedByLogindIsTriedAgainWithoutALock(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	h.Logind.Refuse("Reboot", accessDenied, "not today")
	h.Engine.Set(needReboot)
	h.start()
	h.awaitReboot()
	h.awaitStatus("waiting", "trying again", "not today")
	h.Logind.Heal("Reboot")
	h.awaitReboot()
	h.awaitStatus("rebooting: logind was asked")
}

// logind gives no answer: it may reboot the host or not, so the lock is kept.
func TestRebootThatLogindDoesNotAnswerKeepsTheLock(t *testing.T) {
	t.Parallel()
	forEachEtcd(t, func(t *testing.T, s *etcdtest.Server) {
		g := newGroup(t, s)
		h := newHost(t, g.conf())
		h.Logind.Hang("Reboot")
		h.Engine.Set(needReboot)
		h.start()
		h.awaitReboot()
		h.awaitStatus("rebooting: logind was asked", "trying again", "deadline exceeded")
		h.terminate()
		g.wantHeldThroughout(h.id)
		h.wantNoReboot()
	})
}

// logind is not there yet: nobody can say who is logged in. No slot is held meanwhile.
func TestLogindAbsentIsWaitedForWithoutTheLock(t *testing.T) {
	t.Parallel()
	forEachEtcd(t, func(t *testing.T, s *etcdtest.Server) {
		g := newGroup(t, s)
		h := newHost(t, g.conf())
		must(t, h.Logind.Leave())
		h.Engine.Set(needReboot)
		h.start()
		h.awaitStatus("waiting", "trying again", "could not", "login1")
		g.awaitHolders()
		must(t, h.Logind.Appear())
		h.awaitReboot()
		g.awaitHolders(h.id)
	})
}

// Users who are logged in are told, and have their time. Once they have left,
// which is looked at each minute, it goes on.
func TestLoggedInUsersAreToldAndTheHostRebootsOnceTheyHaveLeft(t *testing.T) {
	t.Parallel()
	g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
	master, tty := openTerminal(t)
	h := newHost(t, g.conf())
	must(t, h.Logind.SetSessions(
		bustest.Session{ID: "1", UID: 1000, Name: "user", TTY: tty},
		bustest.Session{ID: "c1", UID: 0, Name: "root", TTY: "tty1", Class: "greeter"},
	))
	h.Engine.Set(needReboot)
	h.start()
	before := time.Now()
	h.awaitStatus("users are logged in (1)", "or once they have left")
	g.awaitHolders(h.id)
	h.wantCoordinator("etcd-lock", "reboot-planned")
	var until time.Time
	_, text, _ := strings.Cut(h.Status(), "rebooting ")
	until, err := time.Parse("Mon 2006-01-02 15:04:05 MST", strings.TrimSuffix(text, ", or once they have left"))
	must(t, err)
	if d := until.Sub(before); d < 4*time.Minute+50*time.Second || d > 5*time.Minute+patience {
		t.Errorf("it says that it reboots %v after the start, not 5 minutes", d)
	}
	must(t, master.SetReadDeadline(time.Now().Add(patience)))
	var shown strings.Builder
	for buffer := make([]byte, 4096); !strings.Contains(shown.String(), "System reboot in 5 minutes!"); {
		n, err := master.Read(buffer)
		if err != nil {
			t.Fatalf("the terminal has shown %q: %v", shown.String(), err)
		}
		shown.Write(buffer[:n])
	}
	h.wantNoReboot()
	must(t, h.Logind.SetSessions())
	left := time.Now()
	if call := h.awaitReboot(); call.At.Before(left) {
		t.Error("it did not wait for the users to leave")
	}
	g.wantHeldThroughout(h.id)
}

// openTerminal returns a pseudo-terminal's other side, and the terminal's name
// below /dev.
func openTerminal(t *testing.T) (master *os.File, tty string) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatalf("open a pseudo-terminal (is /dev/pts mounted?): %v", err)
	}
	t.Cleanup(func() { master.Close() })
	raw, err := master.SyscallConn()
	must(t, err)
	var number, lock uint32
	must(t, raw.Control(func(fd uintptr) {
		for request, argument := range map[uintptr]*uint32{syscall.TIOCSPTLCK: &lock, syscall.TIOCGPTN: &number} {
			if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, fd, request, uintptr(unsafe.Pointer(argument))); errno != 0 {
				err = errno
			}
		}
	}))
	must(t, err)
	tty = fmt.Sprintf("pts/%d", number)
	// Somebody has to have it open, or it hangs up.
	slave, err := os.OpenFile("/dev/"+tty, os.O_RDWR|syscall.O_NOCTTY, 0)
	must(t, err)
	t.Cleanup(func() { slave.Close() })
	return master, tty
}
