package hosts

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
)

func TestALockTakenByHandWhileTheDaemonIsStoppedIsReleasedWhenItStarts(t *testing.T) {
	inOneSuite(t)
	t.Parallel()
	f, h := startOne(t)
	h.do("systemctl", "stop", "locksmithd")
	h.do("locksmithctl", "lock")
	f.awaitHolders(h)
	if got, want := h.do("locksmithctl", "status"), "Available: 0\nMax: 1\n\nMACHINE ID\n"+h.id+"\n"; got != want {
		t.Errorf("locksmithctl status prints %q, want %q", got, want)
	}
	h.do("systemctl", "start", "locksmithd")
	f.awaitHolders()
	h.awaitStatus("idle")
}

// cutWhileHolding starts two hosts, and cuts the power of the first while it holds the only slot and is about to
// reboot. The second waits for the slot.
func cutWhileHolding(t *testing.T, more ...string) (f *fleet, first, second *host) {
	t.Helper()
	f = newFleet(t)
	f.add(2, more...)
	first, second = f.hosts[0], f.hosts[1]
	// logind waits for an inhibitor that delays a shutdown, and this is for how long.
	first.write("/etc/systemd/logind.conf.d/delay.conf", "[Login]\nInhibitDelayMaxSec=1h\n")
	f.start()
	first.do("systemd-run", "--unit=delay", "systemd-inhibit", "--what=shutdown", "--mode=delay", "sleep", "infinity")
	eventually(t, "the delay inhibitor", func() bool {
		return strings.Contains(first.do("systemd-inhibit", "--list", "--no-legend"), "delay")
	})
	first.announce("4081.2.0")
	first.awaitStatus("rebooting: logind was asked")
	f.awaitHolders(first)
	second.announce("4081.2.0")
	second.awaitStatus("waiting for a slot", "held by "+first.id)
	first.powerOff()
	return f, first, second
}

func TestAHostThatLosesPowerKeepsItsSlotUntilItIsBack(t *testing.T) {
	oncePerRelease(t)
	t.Parallel()
	f, first, second := cutWhileHolding(t)
	before := second.awaitUp()
	f.awaitHolders(first)
	second.awaitStatus("waiting for a slot", "held by "+first.id)
	second.wantNoReboot(before)
	second.whileDown = func() {
		if !first.running() {
			t.Error("the second host is down while the first has no power")
		}
	}
	first.powerOn()
	second.awaitReboot(before)
	f.awaitHolders()
}

func TestAHostThatLosesPowerLosesItsSlotAfterItsTimeToLive(t *testing.T) {
	inOneSuite(t)
	t.Parallel()
	f, first, second := cutWhileHolding(t, "LOCKSMITHD_LOCK_TTL=2m")
	before := second.awaitUp()
	f.wantHeldWhileDown(second)
	second.awaitReboot(before)
	f.awaitHolders()
	// The first host finds that its slot is gone. Its update_engine has forgotten the update.
	first.powerOn()
	first.awaitUp()
	first.awaitStatus("idle")
	f.awaitHolders()
}

func TestTLSWithClientCertificates(t *testing.T) {
	inOneSuite(t)
	t.Parallel()
	dir := filepath.Join(scratch, "tls")
	must.Do(t, os.MkdirAll(filepath.Join(dir, "other"), 0o755))
	ca, err := etcdtest.NewCA(dir)
	must.Do(t, err)
	server, err := ca.Issue(etcdtest.Certificate{CommonName: "etcd", Hosts: []string{network + ".0.1"}})
	must.Do(t, err)
	endpoint := startEtcd(t, "https", 2381, "--cert-file="+server.CertFile, "--key-file="+server.KeyFile,
		"--client-cert-auth", "--trusted-ca-file="+ca.File())
	other, err := etcdtest.NewCA(filepath.Join(dir, "other"))
	must.Do(t, err)

	// The owner of the keys is not root, and only the owner may read them.
	conf := fmt.Sprintf(`REBOOT_STRATEGY=etcd-lock
LOCKSMITHD_ENDPOINT=%s
LOCKSMITHD_ETCD_CAFILE=/etc/etcd/ca.pem
LOCKSMITHD_ETCD_CERTFILE=/etc/etcd/client.pem
LOCKSMITHD_ETCD_KEYFILE=/etc/etcd/client-key.pem
`, endpoint)
	install := func(h *host, from *etcdtest.CA) {
		pair, err := from.Issue(etcdtest.Certificate{CommonName: "root"})
		must.Do(t, err)
		for name, file := range map[string]string{"ca.pem": ca.File(), "client.pem": pair.CertFile, "client-key.pem": pair.KeyFile} {
			data, err := os.ReadFile(file)
			must.Do(t, err)
			h.write("/etc/etcd/"+name, string(data))
			must.Do(t, os.Chmod(filepath.Join(h.root, "etc/etcd", name), 0o600))
			must.Do(t, os.Chown(filepath.Join(h.root, "etc/etcd", name), 2379, 2379))
		}
		must.Do(t, os.Chmod(filepath.Join(h.root, "etc/etcd"), 0o700))
		must.Do(t, os.Chown(filepath.Join(h.root, "etc/etcd"), 2379, 2379))
	}
	good, bad := newHost(t, conf), newHost(t, conf)
	install(good, ca)
	install(bad, other)
	for _, h := range []*host{good, bad} {
		h.powerOn()
	}
	good.awaitUp()
	good.awaitStatus("idle")
	before := good.awaitUp()
	held := make(chan string, 1)
	good.whileDown = func() {
		// The other host's CLI shows the lock, with the right files.
		install(bad, ca)
		held <- bad.run("locksmithctl", "status").stdout
	}
	bad.awaitUp()
	bad.awaitStatus("starting: asking etcd", "certificate")
	good.announce("4081.2.0")
	good.awaitReboot(before)
	good.awaitStatus("idle")
	if status := <-held; !strings.Contains(status, good.id) {
		t.Errorf("during the reboot locksmithctl status on another host prints %q, want the id %s", status, good.id)
	}
	// The daemon reads the right files without a restart.
	bad.awaitStatus("idle")
}

func TestThePasswordIsACredentialOfTheUnit(t *testing.T) {
	oncePerRelease(t)
	t.Parallel()
	f := newFleetAt(t, startEtcd(t, "http", 2383))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, user := range []string{"root", "locksmith"} {
		_, err := f.client.UserAdd(ctx, user, "secret")
		must.Do(t, err)
		_, err = f.client.RoleAdd(ctx, user)
		must.Do(t, err)
		_, err = f.client.UserGrantRole(ctx, user, user)
		must.Do(t, err)
	}
	const keys = "coreos.com/updateengine/rebootlock/"
	_, err := f.client.RoleGrantPermission(ctx, "locksmith", keys, clientv3.GetPrefixRangeEnd(keys), clientv3.PermissionType(clientv3.PermReadWrite))
	must.Do(t, err)
	_, err = f.client.AuthEnable(ctx)
	must.Do(t, err)
	f.client.Close()
	f.client, err = clientv3.New(clientv3.Config{Endpoints: f.endpoints, Username: "root", Password: "secret", Logger: zap.NewNop()})
	must.Do(t, err)
	t.Cleanup(func() { f.client.Close() })

	f.add(1, "LOCKSMITHD_ETCD_USERNAME=locksmith")
	h := f.hosts[0]
	h.write("/etc/locksmith/password", "secret\n")
	must.Do(t, os.Chmod(filepath.Join(h.root, "etc/locksmith/password"), 0o600))
	h.write("/etc/systemd/system/locksmithd.service.d/password.conf", "[Service]\nLoadCredential=locksmithd.etcd-password:/etc/locksmith/password\n")
	f.start()
	witness := f.oneAtATime(nil)
	f.roll()
	witness.check(t, 1)
}
