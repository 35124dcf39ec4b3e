package systemd

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmithd/locksmith/internal/etcdtest"
	"github.com/locksmithd/locksmith/internal/nspawntest"
)

// The daemon does all it has to in the sandbox of its unit, on a real systemd with a
// real logind, bus and etcd: it holds the coordinator file, connects to etcd with a key
// that is another user's and a password that is a credential, tells who asked for a
// reboot, reboots, and gives its slot back after the boot.
func TestDaemonWorksInTheSandboxOfItsUnit(t *testing.T) {
	nspawntest.Require(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	const id, prefix = "69d27b356a94476da859461d3a3bc6fd", "coreos.com/updateengine/rebootlock/"
	ca := etcdtest.MustCA(t)
	server := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{TLS: &etcdtest.TLS{CA: ca, ClientCA: ca}})
	pair := ca.MustIssue(t, etcdtest.Certificate{CommonName: "nobody-that-etcd-knows"})
	if err := server.EnableAuth(ctx, etcdtest.User{Name: "locksmith", Password: "sesame", Prefix: prefix, Permission: clientv3.PermissionType(clientv3.PermReadWrite)}); err != nil {
		t.Fatal(err)
	}

	m := nspawntest.New(t)
	// copyFile gives a file to a user of the container, and to nobody else.
	copyFile := func(path, from string, mode os.FileMode, uid int) {
		t.Helper()
		to := m.Path(path)
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatalf("%v: make builds the programs", err)
		}
		for _, err := range []error{os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, data, 0o600), os.Chown(to, uid, uid), os.Chmod(to, mode)} {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	copyFile("/usr/lib/locksmith/locksmithd", "../bin/locksmithd", 0o755, 0)
	copyFile("/usr/bin/locksmithctl", "../bin/locksmithctl", 0o755, 0)
	copyFile("/usr/lib/systemd/system/"+unitFile, unitFile, 0o644, 0)
	copyFile("/etc/ssl/ca.pem", ca.File(), 0o644, 0)
	copyFile("/home/core/client.pem", pair.CertFile, 0o400, 1000)
	copyFile("/opt/etcd/client-key.pem", pair.KeyFile, 0o400, 900)
	m.Write("/etc/machine-id", id+"\n")
	m.Write("/etc/passwd", "root:x:0:0::/root:/bin/sh\nmessagebus:x:901:901::/:/bin/false\njoe:x:1000:1000::/:/bin/sh\nop:x:1001:1001::/:/bin/sh\n")
	m.Write("/etc/group", "root:x:0:\nmessagebus:x:901:\nwheel:x:10:op\n")
	m.Write("/etc/secret", "sesame\n")
	m.Write("/etc/flatcar/update.conf", fmt.Sprintf("REBOOT_STRATEGY=etcd-lock\nLOCKSMITHD_ENDPOINT=%s\nLOCKSMITHD_ETCD_CAFILE=/etc/ssl/ca.pem\n"+
		"LOCKSMITHD_ETCD_CERTFILE=/home/core/client.pem\nLOCKSMITHD_ETCD_KEYFILE=/opt/etcd/client-key.pem\nLOCKSMITHD_ETCD_USERNAME=locksmith\n", server.Endpoint()))
	m.Write("/etc/systemd/system/locksmithd.service.d/test.conf",
		"[Unit]\nConditionVirtualization=\n[Service]\nLoadCredential=locksmithd.etcd-password:/etc/secret\n")
	for _, unit := range []string{"polkit.service", "systemd-networkd.service", "systemd-resolved.service"} {
		if err := os.Symlink("/dev/null", m.Path("/etc/systemd/system/"+unit)); err != nil {
			t.Fatal(err)
		}
	}
	m.Write("/etc/systemd/journald.conf", "[Journal]\nStorage=volatile\n")
	m.Write("/etc/systemd/system/test.target", "[Unit]\nRequires=locksmithd.service systemd-logind.service check.service\n")
	m.Write("/etc/systemd/system/check.service", `[Unit]
After=locksmithd.service systemd-logind.service
OnFailure=poweroff.target
[Service]
Type=oneshot
ExecStart=/bin/bash -eu /check
StandardOutput=append:/out/check
StandardError=append:/out/check
`)
	m.Write("/check", `
finish() { journalctl --unit=locksmithd --no-pager --output=cat > /out/journal; }
trap finish EXIT
trap 'echo "line $LINENO fails: $BASH_COMMAND"' ERR
poweroff() { finish; systemctl --force --force poweroff; sleep 60; }
await() { for _ in $(seq 300); do ! "$@" || return 0; sleep 0.1; done; echo "waited in vain for $*"; poweroff; }
as() { setpriv --reuid="$1" --regid="$1" --groups="$2" "${@:3}"; }
logged() { journalctl --unit=locksmithd --no-pager --output=cat | grep -qF "$1"; }
state() { systemctl show locksmithd --property=StatusText | grep -q "$1"; }

if [ -e /out/second ]; then
	await state idle
	poweroff
fi
await state idle
cat /run/update-engine/coordinator.conf > /out/coordinator.conf
stat --format='%a %U' /run/update-engine /run/update-engine/coordinator.conf >> /out/coordinator.conf
if flock --nonblock /run/update-engine/coordinator.conf true; then echo "the coordinator file is not locked"; false; fi
grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/"$(systemctl show locksmithd --property=MainPID --value)"/status > /out/status
systemd-analyze security --no-pager --threshold=20 locksmithd > /out/security
systemctl reload locksmithd
await logged 'the new configuration is in force'
as 1000 1000 locksmithctl send-need-reboot
await logged '\"joe\" (uid 1000), process \"locksmithctl\"'
touch /out/second
as 1001 10 locksmithctl send-need-reboot || true # it may be ended by the reboot
await false
`)

	boot := func(want int) {
		t.Helper()
		status, console, err := m.Boot(ctx, "test.target")
		if err != nil || status != want {
			t.Fatalf("the container ended with status %d (%v), want %d\n%s\nits checks:\n%s\nits journal:\n%s", status, err, want, console, m.Read("/out/check"), m.Read("/out/journal"))
		}
	}
	holders := func() string {
		t.Helper()
		client, err := server.Client()
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Get(ctx, prefix+"semaphore")
		if err != nil || len(resp.Kvs) != 1 {
			t.Fatal(resp, err)
		}
		return string(resp.Kvs[0].Value)
	}
	boot(nspawntest.Rebooted)
	if got, want := m.Read("/out/coordinator.conf"), "NAME=locksmithd\nSTRATEGY=etcd-lock\nSTATE=running\n755 root\n644 root\n"; got != want {
		t.Errorf("coordinator.conf and its modes are %q, want %q", got, want)
	}
	// CAP_DAC_READ_SEARCH alone, and a filter of system calls.
	if got, want := m.Read("/out/status"), "CapEff:\t0000000000000004\nNoNewPrivs:\t1\nSeccomp:\t2\n"; got != want {
		t.Errorf("the daemon's status has %q, want %q", got, want)
	}
	if got := holders(); !strings.Contains(got, id) {
		t.Errorf("after the reboot the semaphore is %s, without %s", got, id)
	}
	boot(0)
	if got := holders(); strings.Contains(got, id) {
		t.Errorf("after the boot the semaphore is still %s", got)
	}
}
