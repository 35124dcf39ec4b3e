package hosts

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// askAgain writes the settings of a host, and returns a function that has its daemon ask the sentinel command again.
func (h *host) askAgain(conf string) (ask func()) {
	h.t.Helper()
	const path = "/etc/locksmith/locksmith.conf"
	period := 60
	h.write(path, conf)
	return func() {
		h.t.Helper()
		period++ // another period has it asked at once
		h.write(path, fmt.Sprintf("%sLOCKSMITHD_REBOOT_SENTINEL_PERIOD=%dm\n", conf, period))
		h.do("systemctl", "reload", "locksmithd")
	}
}

// The file is found by the daemon in its sandbox, whatever is there. All that is done here is old enough to count at
// once.
func TestTheFileOfThePackagesMayBeAnything(t *testing.T) {
	oncePerRelease(t)
	t.Parallel()
	h := newDebianHost(t, "REBOOT_STRATEGY=reboot\n")
	h.write("/etc/locksmith/hold", "the tests\n")
	h.powerOn()
	before := h.awaitUp()
	h.awaitStatus("idle: no reboot is needed")
	const file = "/run/reboot-required"
	needed := func(reason string) []string { return []string{"reboot needed since", file + reason, "held back by"} }
	for _, step := range []struct {
		what, script string
		want         []string
	}{
		{"created", "touch -d -1hour $f", needed("")},
		{"with a reason", "echo restart > $f; touch -d -1hour $f", needed(": restart")},
		{"with packages", "echo libc6 > $f.pkgs; touch -d -1hour $f.pkgs", needed(": restart (libc6)")},
		{"not readable for its owner", "echo secret > $f; chmod 0 $f $f.pkgs", needed(": secret (libc6)")}, // root is not kept out
		{"of another user", "chown joe $f", needed(": secret (libc6)")},
		{"replaced", "echo replaced > $f.new; touch -d -1hour $f.new; mv $f.new $f", needed(": replaced (libc6)")},
		{"deleted", "rm $f $f.pkgs", []string{"idle: no reboot is needed"}},
		{"a folder", "mkdir $f", []string{"idle: no reboot is needed", file + " is not a regular file"}},
		{"a fifo", "rmdir $f; mkfifo $f", []string{"idle: no reboot is needed", file + " is not a regular file"}},
		{"a gigabyte", "rm $f; truncate -s 1G $f; touch -d -1hour $f", needed("")},
		{"/run remounted", "mount -o remount,size=90% /run", needed("")},
	} {
		h.do("sh", "-ec", "f="+file+"; "+step.script)
		t.Logf("%s: %s", step.what, h.awaitStatus(step.want...))
	}
	// While something is mounted over /run, systemctl is deaf, but the journal is not.
	lines := func(part string) int { return strings.Count(h.journal(), part) }
	changes := lines("msg=idle")
	h.do("mount", "-t", "tmpfs", "tmpfs", "/run")
	eventually(t, "the end of the need", func() bool { return lines("msg=idle") > changes })
	changes = lines("msg=waiting")
	h.do("touch", "-d", "-1hour", file)
	eventually(t, "the need on the new /run", func() bool { return lines("msg=waiting") > changes })
	h.do("umount", "--lazy", "/run")
	h.awaitStatus(needed("")...)
	h.do("rm", file)
	h.awaitStatus("idle: no reboot is needed")
	h.wantNoReboot(before)
}

func TestASentinelCommandMayDoAnything(t *testing.T) {
	oncePerRelease(t)
	t.Parallel()
	h := newDebianHost(t, "")
	const command = "/usr/local/bin/needs-reboot"
	h.executable(command, "exit 1")
	h.write("/etc/locksmith/hold", "the tests\n")
	h.write("/etc/systemd/system/locksmith-sentinel.service.d/short.conf", "[Service]\nTimeoutStartSec=10s\n")
	ask := h.askAgain("REBOOT_STRATEGY=reboot\nLOCKSMITHD_REBOOT_SENTINEL_COMMAND=\"exec " + command + "\"\n")
	h.powerOn()
	h.awaitUp()
	h.awaitStatus("idle: no reboot is needed")
	pid := h.unit("locksmithd", "MainPID")
	const late = "locksmith-sentinel.service did not finish in time"
	for _, test := range []struct {
		what, script string
		want         []string
	}{
		{"a signal", "kill -SEGV $$", []string{"idle: no reboot is needed", "the command gives no answer: killed by SIGSEGV"}},
		{"a yes after 20 MB", "echo a new kernel; head -c 20000000 /dev/zero | tr '\\0' x", []string{"reboot needed since", "(a new kernel)"}},
		{"another signal", "kill -9 $$", []string{"(a new kernel)", "the command gives no answer: killed by SIGKILL"}},
		{"the signal for who started it", "kill -9 $PPID", []string{"(a new kernel)", "locksmith-sentinel.service was killed by signal 9 (SIGKILL)"}},
		{"a hang in spite of SIGTERM", "trap : TERM; while :; do sleep 4321; done", []string{"(a new kernel)", late}},
		{"output without end", "exec yes", []string{"(a new kernel)", late}},
		{"500 processes", "for i in $(seq 500); do sleep 4321 & done; wait", []string{"(a new kernel)", late}},
		{"a no from what leaves processes", "for i in $(seq 50); do setsid sleep 4321 & done; exit 1", []string{"idle: no reboot is needed"}},
	} {
		const asked = "/run/asked"
		h.executable(command, "touch "+asked+"\n"+test.script)
		ask()
		eventually(t, test.what, func() bool { return h.run("rm", asked).status == 0 })
		eventually(t, test.what+": an end of the unit without a failure and without processes", func() bool {
			return h.unit("locksmith-sentinel", "ActiveState") == "inactive" && h.run("pgrep", "sleep|yes|needs-reboot").status == 1
		})
		t.Logf("%s: %s", test.what, h.awaitStatus(test.want...))
	}
	if now := h.unit("locksmithd", "MainPID"); now != pid {
		t.Errorf("locksmithd was started again: its process is %s, and was %s", now, pid)
	}
	h.syncJournal()
	// Of each run a megabyte is passed on, and journald drops much of that.
	size := strings.TrimSpace(h.do("sh", "-c", "journalctl --boot --unit=locksmith-sentinel --output=cat | wc -c"))
	if n, err := strconv.Atoi(size); err != nil || n > 4<<20 {
		t.Errorf("the journal has %s bytes of what the command has printed, %v", size, err)
	}
}
