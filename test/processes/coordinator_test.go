package processes

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/locksmithd/locksmith/test/contains"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/updateconf"
)

// The file has the same three lines in every state.
func TestCoordinatorFileShowsTheState(t *testing.T) {
	t.Parallel()
	g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
	p := etcdtest.MustProxy(t, sharedEtcd(t, etcdtest.Newest))
	p.Refuse()
	g.lock("other")
	h := startHost(t, g.confAt(p.Endpoint(), updateconf.ShutWindow()))
	h.awaitStatus("starting", "asking etcd")
	h.wantCoordinator("etcd-lock", "starting")
	must.Do(t, p.Pass())
	h.awaitIdle()
	h.wantCoordinator("etcd-lock", "running")
	h.announce()
	h.awaitStatus("for the reboot window")
	h.wantCoordinator("etcd-lock", "reboot-planned")
	h.reload(g.confAt(p.Endpoint(), updateconf.OpenWindow()))
	h.awaitStatus("waiting for a slot", "held by other")
	h.wantCoordinator("etcd-lock", "reboot-planned")
	must.Do(t, h.Logind.SetSessions(someUser))
	g.unlock("other")
	h.awaitStatus("users are logged in")
	h.wantCoordinator("etcd-lock", "reboot-planned")
	must.Do(t, h.Logind.SetSessions())
	h.reload("REBOOT_STRATEGY=reboot\n")
	h.awaitReboot()
	h.wantCoordinator("reboot", "rebooting")
	h.terminate()
}

// The lock on the file is never dropped while the file is replaced.
func TestCoordinatorFileIsLockedThroughout(t *testing.T) {
	t.Parallel()
	g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
	h := startHost(t, g.conf(updateconf.ShutWindow()))
	h.await("READY=1", func() bool { return h.noticed("READY=1") > 0 })

	stop, done := make(chan struct{}), make(chan int)
	go func() {
		taken := 0
		for {
			select {
			case <-stop:
				done <- taken
				return
			default:
			}
			if got, err := flock(h.coordinatorPath()); err != nil {
				t.Error(err)
			} else if got {
				taken++
			}
		}
	}()
	for range 5 {
		h.announce()
		h.awaitStatus("for the reboot window")
		must.Do(t, h.Engine.Announce(idle))
		h.awaitIdle()
	}
	h.reload("REBOOT_STRATEGY=reboot\n")
	h.awaitLog("the new configuration is in force")
	h.announce()
	h.awaitReboot()
	h.wantCoordinator("reboot", "rebooting")
	close(stop)
	if n := <-done; n > 0 {
		t.Errorf("another process could lock the file %d times", n)
	}
	h.terminate()
	// Without the daemon the lock is free.
	if got, err := flock(h.coordinatorPath()); !got || err != nil {
		t.Errorf("the file cannot be locked after the daemon's end: %v", err)
	}
}

// flock tries to lock the file at a path, as another coordinator would, and releases the lock at once. A lock on a
// file that has lost the path meanwhile does not count.
func flock(path string) (bool, error) {
	file, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer file.Close()
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = nil
		}
		return false, err
	}
	mine, err := file.Stat()
	if err != nil {
		return false, err
	}
	there, err := os.Stat(path)
	return err == nil && os.SameFile(mine, there), err
}

// A daemon does not start while another coordinator holds the file.
func TestSecondCoordinatorIsRefusedAndTheFirstUnharmed(t *testing.T) {
	t.Parallel()
	h := startHost(t, "")
	h.awaitIdle()
	second := h.run(locksmithd())
	if second.status != 1 || !contains.All(second.stderr, h.coordinatorPath(), "locksmithd", "only one may run") || strings.Count(second.stderr, "\n") != 1 {
		t.Errorf("the second daemon: %+v", second)
	}
	h.wantCoordinator("reboot", "running")
	h.announce()
	h.awaitReboot()
}
