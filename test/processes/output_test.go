package processes

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/proc"
)

// If the journal goes away, nothing reads the daemon's output. The daemon must continue: systemd takes a death by
// SIGPIPE for a clean exit and does not restart the daemon, even if it holds a slot.
func TestDaemonSurvivesTheEndOfTheJournal(t *testing.T) {
	t.Parallel()
	g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
	h := newHost(t, g.conf())
	must.Do(t, h.Logind.SetSessions(someUser))
	journal, stderr, err := os.Pipe()
	must.Do(t, err)
	defer journal.Close()
	cmd := exec.Command(locksmithd(), "--root="+h.Path(""))
	cmd.Env = []string{"DBUS_SYSTEM_BUS_ADDRESS=" + h.Bus.Address()}
	cmd.Stderr = stderr
	daemon, err := proc.Start(cmd)
	must.Do(t, err)
	defer daemon.Kill()
	must.Do(t, stderr.Close())
	lines := bufio.NewScanner(journal)
	for lines.Scan() && !strings.Contains(lines.Text(), "msg=idle") {
	}
	must.Do(t, lines.Err())
	must.Do(t, journal.Close())

	h.announce()
	g.awaitHolders(h.id)
	must.Do(t, h.Engine.Announce(idle))
	g.awaitHolders()
	if !daemon.Running() {
		t.Errorf("the daemon ended: %v", daemon.Err())
	}
}

// A script must not mistake missing output for an answer.
func TestOutputThatCannotBeWrittenIsAnError(t *testing.T) {
	t.Parallel()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0) // see full(4)
	must.Do(t, err)
	defer full.Close()
	for _, flag := range []string{"-help", "--help", "-version"} {
		cmd := exec.Command(locksmithd(), flag)
		var stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = full, &stderr
		if err := cmd.Run(); proc.ExitStatus(err) != 1 || !strings.Contains(stderr.String(), "locksmithd: write the output: ") {
			t.Errorf("%s ends with %v and prints %q", flag, err, stderr.String())
		}
	}
}

// Under systemd, journalctl -p finds each line by its priority.
func TestLinesForTheJournalCarryTheirPriority(t *testing.T) {
	t.Parallel()
	journal := withEnv("JOURNAL_STREAM=8:1234")
	wrong := startHost(t, "REBOOT_STRATEGY=sometimes\n", journal)
	wrong.wantExit(1)
	if !strings.HasPrefix(wrong.Log(), `<3>REBOOT_STRATEGY="sometimes"`) {
		t.Errorf("a wrong configuration is logged as %q", wrong.Log())
	}
	h := startHost(t, "REBOOT_STRTEGY=off\n", journal)
	h.awaitIdle()
	must.Do(t, h.Bus.Kill())
	h.wantExit(1)
	for _, line := range []string{"<4>msg=", "<6>msg=idle", "<3>msg="} {
		if !strings.Contains("\n"+h.Log(), "\n"+line) {
			t.Errorf("no line begins with %s:\n%s", line, h.Log())
		}
	}
}

// Help and version are output, so they go to standard output.
func TestHelpAndVersionGoToStandardOutput(t *testing.T) {
	t.Parallel()
	h := newHost(t, "REBOOT_STRATEGY=sometimes\n")
	for flag, want := range map[string]string{"-help": "-etcd-cafile", "--help": "-endpoint", "-version": "locksmithd version test\n", "--version": "version test"} {
		if r := h.run(locksmithd(), flag); r.status != 0 || r.stderr != "" || !strings.Contains(r.stdout, want) {
			t.Errorf("%s: %+v", flag, r)
		}
	}
}
