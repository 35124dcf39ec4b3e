package hosts

import (
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/test/must"
)

func TestTheUnitExposesLittle(t *testing.T) {
	oncePerRelease(t)
	t.Parallel()
	h := startHost(t, "REBOOT_STRATEGY=reboot\n")
	h.awaitStatus("idle")
	r := h.run("systemd-analyze", "security", "--no-pager", "--threshold=20", "locksmithd")
	for line := range strings.Lines(r.stdout) {
		if strings.Contains(line, "Overall exposure") {
			t.Log(strings.TrimSpace(line))
		}
	}
	if r.status != 0 {
		t.Errorf("systemd-analyze security finds an exposure above 2.0:\n%s%s", r.stdout, r.stderr)
	}
	// Only CAP_DAC_READ_SEARCH, and a filter of system calls.
	status := h.do("grep", "-E", "^(CapEff|NoNewPrivs|Seccomp):", "/proc/"+h.unit("locksmithd", "MainPID")+"/status")
	if want := "NoNewPrivs:\t1\nSeccomp:\t2\n"; !strings.HasSuffix(status, want) || !strings.HasPrefix(status, "CapEff:\t0000000000000004\n") {
		t.Errorf("the daemon has %q, want CapEff 4 and %q", status, want)
	}
	const folder = "/run/update-engine"
	if got, want := h.do("stat", "--format=%a %U", folder, folder+"/coordinator.conf"), "755 root\n644 root\n"; got != want {
		t.Errorf("the modes of %s and coordinator.conf in it are %q, want %q", folder, got, want)
	}
}

func TestMemoryStaysBelowMemoryHighInTheQueue(t *testing.T) {
	oncePerRelease(t)
	t.Parallel()
	_, h := startOne(t)
	other := machineID()
	h.do("locksmithctl", "lock", other)
	h.announce("4081.2.0")
	h.awaitStatus("waiting for a slot", "held by "+other)
	h.do("locksmithctl", "status", "-o", "wide")

	high, err := strconv.Atoi(h.unit("locksmithd", "MemoryHigh"))
	must.Do(t, err)
	if high != 32<<20 {
		t.Errorf("MemoryHigh is %d, want %d", high, 32<<20)
	}
	// The control group, whose memory only the memory controller reports, is charged with no more than the resident
	// set of the process.
	status := h.do("cat", "/proc/"+h.unit("locksmithd", "MainPID")+"/status")
	m := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindStringSubmatch(status)
	if m == nil {
		t.Fatalf("no VmHWM in %s", status)
	}
	peak, err := strconv.Atoi(m[1])
	must.Do(t, err)
	t.Logf("in the queue: resident set at most %.1f MiB, MemoryCurrent %s", float64(peak)/1024, h.unit("locksmithd", "MemoryCurrent"))
	if peak*1024 > high {
		t.Errorf("the resident set was %d kB, more than MemoryHigh", peak)
	}
	before := h.awaitUp()
	h.do("locksmithctl", "unlock", other)
	h.awaitReboot(before)
}

// Every user of the host sees the lock that the daemon uses, even if only drop-ins define it.
func TestStatusOfAHostWithADropInShowsTheLockOfItsDaemon(t *testing.T) {
	oncePerRelease(t)
	t.Parallel()
	f := newFleet(t)
	h := newHost(t, "GROUP=stable\n")
	f.hosts = append(f.hosts, h)
	h.write("/etc/systemd/system/locksmithd.service.d/10-etcd.conf", "[Service]\nEnvironment=REBOOT_STRATEGY=etcd-lock LOCKSMITHD_ENDPOINT="+f.endpoints[0]+"\n")
	h.write("/etc/systemd/system/locksmithd.service.d/20-group.conf", "[Service]\nExecStart=\nExecStart=/usr/lib/locksmith/locksmithd -group="+f.group+"\n")
	f.start()
	h.announce("4081.2.0")
	before := h.awaitReboot(h.awaitUp())
	h.awaitStatus("idle")
	h.do("locksmithctl", "set-max", "7")
	for _, user := range []string{"root", "joe"} {
		r := h.runAs(user, "locksmithctl", "status")
		if r.status != 0 || r.stdout != "Available: 7\nMax: 7\n" || r.stderr != "" {
			t.Errorf("%s, boot %d: %+v", user, before.n, r)
		}
	}
	config := h.do("locksmithctl", "config")
	for _, want := range []string{`(?m)^strategy +etcd-lock +drop-in 10-etcd.conf$`, `(?m)^group +` + f.group + ` +drop-in 20-group.conf$`} {
		if !regexp.MustCompile(want).MatchString(config) {
			t.Errorf("there is no %s in\n%s", want, config)
		}
	}
}

// The daemon in its sandbox does not see the processes of other users, but tells them from those of root.
func TestOnlyRootCanKeepTheDaemonFromTheCoordinatorFile(t *testing.T) {
	oncePerRelease(t)
	t.Parallel()
	const path = "/run/update-engine/coordinator.conf"
	h := startHost(t, "REBOOT_STRATEGY=reboot\n")
	h.awaitStatus("idle")
	hold := func(user string, command ...string) {
		h.do("systemctl", "stop", "locksmithd")
		h.do(append([]string{"systemd-run", "--unit=hold-" + user, "--uid=" + user}, command...)...)
		eventually(t, "the lock of "+user, func() bool { return h.run("flock", "-n", path, "true").status == 1 })
	}

	hold("joe", "flock", path, "sleep", "1000")
	h.do("systemctl", "start", "locksmithd")
	h.awaitJournal("the lock on the coordinator file is held by a user who cannot be a reboot coordinator")
	if h.run("flock", "-n", path, "true").status != 1 {
		t.Error("the daemon does not hold the lock")
	}

	hold("root", "flock", path, "sleep", "1000")
	if r := h.run("systemctl", "start", "locksmithd"); r.status == 0 {
		t.Errorf("locksmithd starts beside another coordinator: %+v", r)
	}
	h.awaitJournal(path+" is locked by process ", " of root, and the file names the reboot coordinator")
	h.do("systemctl", "stop", "hold-root")
	h.do("systemctl", "restart", "locksmithd")
	h.awaitStatus("idle")
}
