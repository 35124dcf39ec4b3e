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

// When the journal goes away nobody reads what the daemon writes. It must go on
// all the same: systemd takes a death by SIGPIPE for a clean end, and does not
// start it again, whatever slot it holds.
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
		t.Errorf("it ended: %v", daemon.Err())
	}
}

// Who asks in a script must not take no answer for one.
func TestDaemonsAnswerThatCannotBeWrittenIsAFailure(t *testing.T) {
	t.Parallel()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0) // see full(4)
	must.Do(t, err)
	defer full.Close()
	for _, flag := range []string{"-help", "--help", "-version"} {
		cmd := exec.Command(locksmithd(), flag)
		var stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = full, &stderr
		if err := cmd.Run(); proc.ExitStatus(err) != 1 || !strings.Contains(stderr.String(), "locksmithd: write the output: ") {
			t.Errorf("%s ends with %v and says %q", flag, err, stderr.String())
		}
	}
}
