package processes

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/locksmithd/locksmith/fleetlock"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/proc"
)

// served is the lock of an etcd, which a process of `locksmithctl serve` gives to hosts that show it a password over
// TLS.
type served struct {
	*group
	t       testing.TB
	etcd    *etcdtest.RPCProxy // between the process and etcd
	root    string             // of the process
	ca      *etcdtest.CA
	args    []string
	log     string // its file
	process *proc.Process
	url     string
}

const groupUser, groupPassword = "workers", "sesame"

// serveLock starts a server with one slot, and more arguments for it.
func serveLock(t testing.TB, args ...string) *served {
	t.Helper()
	etcd := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{})
	s := &served{group: watchGroup(t, etcd, ""), t: t, etcd: etcdtest.MustRPCProxy(t, etcd), root: t.TempDir()}
	var err error
	s.ca, err = etcdtest.NewCA(t.TempDir())
	must.Do(t, err)
	pair, err := s.ca.Issue(etcdtest.Certificate{Hosts: []string{"127.0.0.1"}})
	must.Do(t, err)
	hash, err := bcrypt.GenerateFromPassword([]byte(groupPassword), bcrypt.MinCost)
	must.Do(t, err)
	groups := filepath.Join(s.root, "etc/locksmith/groups.d")
	must.Do(t, os.MkdirAll(groups, 0o755))
	must.Do(t, os.WriteFile(filepath.Join(groups, "default.conf"), nil, 0o600))
	must.Do(t, os.WriteFile(filepath.Join(groups, "default.users"), []byte(groupUser+":"+string(hash)+"\n"), 0o600))
	s.args = append([]string{"--root=" + s.root, "serve", "-endpoint=" + s.etcd.Endpoint(), "-tls-cert=" + pair.CertFile, "-tls-key=" + pair.KeyFile}, args...)
	s.start("127.0.0.1:0")
	t.Cleanup(func() {
		s.process.Kill()
		if log, err := os.ReadFile(s.log); t.Failed() && err == nil {
			t.Logf("the log of the server:\n%s", log)
		}
	})
	return s
}

// start starts the process at an address.
func (s *served) start(address string) {
	s.t.Helper()
	s.log = filepath.Join(s.t.TempDir(), "log")
	log, err := os.Create(s.log)
	must.Do(s.t, err)
	defer log.Close()
	cmd := exec.Command(locksmithctl(), append(s.args, "-listen="+address)...)
	cmd.Stdout, cmd.Stderr = log, log
	s.process, err = proc.Start(cmd)
	must.Do(s.t, err)
	must.Eventually(s.t, patience, "the server", func() bool {
		text, err := os.ReadFile(s.log)
		must.Do(s.t, err)
		at := regexp.MustCompile(`at=(https://\S+)`).FindSubmatch(text)
		if at != nil {
			s.url = string(at[1])
		}
		return at != nil
	})
}

// restart starts the process again, after it was killed.
func (s *served) restart() {
	s.t.Helper()
	s.process.Kill()
	s.start(strings.TrimPrefix(s.url, "https://"))
}

// newHost makes a host that knows the password.
func (s *served) newHost() *host {
	s.t.Helper()
	h := newHost(s.t, "")
	h.write("etc/locksmith/fleetlock.password", groupPassword+"\n")
	must.Do(s.t, h.Configure(strings.Join([]string{
		"REBOOT_STRATEGY=fleet-lock",
		"LOCKSMITHD_FLEETLOCK_URL=" + s.url,
		"LOCKSMITHD_FLEETLOCK_CAFILE=" + s.ca.File(),
		"LOCKSMITHD_FLEETLOCK_USERNAME=" + groupUser,
		"LOCKSMITHD_FLEETLOCK_PASSWORD_FILE=" + h.Path("etc/locksmith/fleetlock.password"),
	}, "\n")+"\n"))
	return h
}

// idOf returns the id of a host in the lock.
func (s *served) idOf(h *host) string {
	s.t.Helper()
	id, err := fleetlock.AppID(h.id)
	must.Do(s.t, err)
	return id
}

// awaitQueue waits until a host is in the queue.
func (s *served) awaitQueue(h *host) {
	s.t.Helper()
	must.Eventually(s.t, patience, "the host in the queue", func() bool { return s.get(s.prefix+"/queue/"+s.idOf(h)) != "" })
}

// Two hosts take the slot of the lock one after another. The second one's request is held open until its turn: the
// server holds it for longer than this test lasts, so no other request can bring the slot.
func TestServerHandsTheSlotOver(t *testing.T) {
	t.Parallel()
	s := serveLock(t, "-hold=25m")
	first, second := s.newHost(), s.newHost()
	first.startPending()
	first.awaitReboot()
	s.awaitHolders(s.idOf(first))
	second.startPending()
	s.awaitQueue(second)
	second.wantNoReboot()
	first.reboot()
	second.awaitReboot()
	s.awaitHolders(s.idOf(second))
	first.awaitIdle()
	second.reboot()
	s.awaitHolders()
	second.awaitIdle()
	s.wantNever("both held a slot", func(d semaphore) bool { return len(d.Holders) > 1 })
}

// The server is killed after etcd has the slot, and before its answer. The host asks again, is told that it has the
// slot, and reboots.
func TestServerIsKilledBetweenTheGrantAndTheAnswer(t *testing.T) {
	t.Parallel()
	s := serveLock(t)
	h := s.newHost()
	h.start()
	h.awaitIdle()
	taken := s.etcd.Next(etcdtest.Writes, func(_ context.Context, c *etcdtest.Call) error {
		err := c.Forward()
		s.process.Kill()
		return err
	})
	h.announce()
	must.Receive(t, patience, "a slot that is taken", taken.Arrived)
	s.awaitHolders(s.idOf(h))
	h.awaitStatus("waiting for a slot", s.url+"/v1/pre-reboot")
	h.wantNoReboot()
	if state := h.fleetLockState(); state != "asked" {
		t.Errorf("the file says %q", state)
	}
	s.restart()
	h.awaitReboot()
	s.wantHeldThroughout(s.idOf(h))
	h.reboot()
	s.awaitHolders()
	h.awaitIdle()
}

// The server is killed, and started again, while a host waits, and the host's update is withdrawn before it has the
// slot: nothing of it is left in the lock.
func TestServerIsRestartedWhileHostsWait(t *testing.T) {
	t.Parallel()
	s := serveLock(t)
	first, second, third := s.newHost(), s.newHost(), s.newHost()
	first.startPending()
	first.awaitReboot()
	for _, h := range []*host{second, third} {
		h.startPending()
		s.awaitQueue(h)
	}
	s.restart()
	must.Do(t, third.Engine.Announce(idle))
	third.awaitIdle()
	first.reboot()
	second.awaitReboot()
	s.awaitHolders(s.idOf(second))
	second.reboot()
	s.awaitHolders()
	for _, key := range s.keys() {
		if strings.Contains(key, s.idOf(third)) {
			t.Errorf("%s is left", key)
		}
	}
}

// A password that is wrong costs nothing, and the status says so.
func TestServerWantsAnotherPassword(t *testing.T) {
	t.Parallel()
	s := serveLock(t)
	h := s.newHost()
	h.write("etc/locksmith/fleetlock.password", "another\n")
	h.startPending()
	h.awaitStatus("unauthorized", "LOCKSMITHD_FLEETLOCK_USERNAME and LOCKSMITHD_FLEETLOCK_PASSWORD_FILE say who asks")
	h.wantNoReboot()
	h.write("etc/locksmith/fleetlock.password", groupPassword+"\n")
	h.awaitReboot()
	s.awaitHolders(s.idOf(h))
}

// fleetLockState returns what the host's file says of its slot.
func (h *host) fleetLockState() string {
	h.t.Helper()
	data, err := os.ReadFile(h.Path(fleetLockFile))
	must.Do(h.t, err)
	state := regexp.MustCompile(`"slot":"([a-z]*)"`).FindAllSubmatch(data, -1)
	if len(state) != 1 {
		h.t.Fatalf("the file has %d slots: %s", len(state), data)
	}
	return string(state[0][1])
}
