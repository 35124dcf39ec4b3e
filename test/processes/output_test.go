package processes

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/internal/journal"
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
	stream, stderr, err := os.Pipe()
	must.Do(t, err)
	defer stream.Close()
	cmd := exec.Command(locksmithd(), "--root="+h.Path(""))
	cmd.Env = []string{"DBUS_SYSTEM_BUS_ADDRESS=" + h.Bus.Address()}
	cmd.Stderr = stderr
	daemon, err := proc.Start(cmd)
	must.Do(t, err)
	defer daemon.Kill()
	must.Do(t, stderr.Close())
	lines := bufio.NewScanner(stream)
	for lines.Scan() && !strings.Contains(lines.Text(), "msg=idle") {
	}
	must.Do(t, lines.Err())
	must.Do(t, stream.Close())

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
	wrong := startHost(t, "REBOOT_STRATEGY=sometimes\n", inJournal)
	wrong.wantExit(1)
	wrong.awaitLog("\n")
	if !strings.HasPrefix(wrong.Log(), `<3>REBOOT_STRATEGY="sometimes"`) {
		t.Errorf("a wrong configuration is logged as %q", wrong.Log())
	}
	h := startHost(t, "REBOOT_STRTEGY=off\n", inJournal)
	h.awaitIdle()
	must.Do(t, h.Bus.Kill())
	h.wantExit(1)
	h.awaitLog("<3>msg=")
	for _, line := range []string{"<4>msg=", "<6>msg=idle", "<3>msg="} {
		if !strings.Contains("\n"+h.Log(), "\n"+line) {
			t.Errorf("no line begins with %s:\n%s", line, h.Log())
		}
	}
}

// With journald's socket, the lines are entries with facts, and nothing is on the stream.
func TestLinesAreEntries(t *testing.T) {
	t.Parallel()
	g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
	h := newHost(t, g.conf()+"LOCKSMITHD_LOG_FORMAT=json\n", inJournal)
	entries := h.listenAsJournald()
	must.Do(t, h.Logind.SetSessions(someUser))
	h.startPending()
	h.awaitStatus("users are logged in")
	entry := entries.await(t, "\nLOCKSMITH_STATE=preparing\n")
	for _, want := range []string{
		"MESSAGE=msg=preparing from=locking why=", "\nPRIORITY=6\n", "\nSYSLOG_IDENTIFIER=locksmithd\n", "\nMESSAGE_ID=" + string(journal.EnteredPreparing) + "\n",
		"\nLOCKSMITH_FROM=locking\n", "\nLOCKSMITH_GROUP=" + g.name + "\n", "\nLOCKSMITH_VERSION=4081.2.0\n", "\nLOCKSMITH_REASON=",
	} {
		if !strings.Contains("\n"+entry, want) {
			t.Errorf("the entry has no %q:\n%s", want, entry)
		}
	}
	h.reload("REBOOT_STRATEGY=sometimes\n")
	if entry := entries.await(t, "\nMESSAGE_ID="+string(journal.ConfigRefused)+"\n"); !strings.Contains(entry, "\nPRIORITY=3\n") || !strings.Contains(entry, "\nLOCKSMITH_REASON=REBOOT_STRATEGY=") {
		t.Errorf("the entry of a refused configuration is %q", entry)
	}
	if log := h.Log(); log != "" {
		t.Errorf("on the stream is %q", log)
	}
}

// Where there is no journal, lines are JSON if that is wanted, once the settings are read.
func TestLinesAreJSON(t *testing.T) {
	t.Parallel()
	wrong := startHost(t, "LOCKSMITHD_LOG_FORMAT=JSON\n")
	wrong.wantExit(1)
	if want := "it is not a format: write text or json\n"; !strings.HasPrefix(wrong.Log(), "locksmithd: LOCKSMITHD_LOG_FORMAT=") || !strings.HasSuffix(wrong.Log(), want) {
		t.Errorf("a wrong format is logged as %q", wrong.Log())
	}
	h := startHost(t, "LOCKSMITHD_LOG_FORMAT=json\nREBOOT_STRTEGY=off\n")
	h.awaitIdle()
	h.reload("LOCKSMITHD_LOG_FORMAT=text\n")
	h.awaitLog("level=INFO msg=\"the new configuration is in force\"")
	text := false
	var states []string
	for line := range strings.Lines(h.Log()) {
		var object map[string]string
		switch err := json.Unmarshal([]byte(line), &object); {
		case strings.HasPrefix(line, "time="):
			text = true
		case err != nil || text:
			t.Errorf("the line %q: %v", line, err)
		case object["LOCKSMITH_STATE"] != "":
			states = append(states, object["LOCKSMITH_STATE"])
			if object["msg"] != object["LOCKSMITH_STATE"] || object["level"] != "INFO" || len(object["MESSAGE_ID"]) != 32 || object["time"] == "" {
				t.Errorf("the line is %q", line)
			}
		}
	}
	if !text || strings.Join(states, " ") != "idle" {
		t.Errorf("text: %v, and states %q:\n%s", text, states, h.Log())
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
