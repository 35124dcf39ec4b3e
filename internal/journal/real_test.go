package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/nspawntest"
)

// speaksVariable says what the test, as a service of a real systemd, writes to its standard error.
const speaksVariable = "LOCKSMITH_TEST_SPEAKS"

// many is more lines than journald's socket takes.
const many = 1500

// TestRealJournal boots systemd in a container, where services write to the journal.
func TestRealJournal(t *testing.T) {
	stderr := New(os.Stderr, "program.test", os.Environ())
	switch speaks := os.Getenv(speaksVariable); {
	case speaks == "natively":
		write(t, stderr, true)
		stderr.Flush() // entries are looked for by their unit
	case speaks == "on-the-stream": // as without journald's socket
		stderr.Below("/nowhere")
		write(t, stderr, true)
	case speaks == "much":
		for n := range many {
			stderr.Logger(Options{Level: slog.LevelInfo, Zone: zone}).Info("line", "n", n)
		}
	case speaks == "at-the-end":
		stderr.Error(ConfigRefused, errors.New("that is why it ends"))
		must.Do(t, os.WriteFile(said, nil, 0o644))
		stderr.Flush()
	case nspawntest.Inside():
		for _, name := range []string{"natively", "on-the-stream"} {
			do(t, "systemctl", "start", name)
		}
		wantSame(t)
		wantExplained(t)
		wantNoneLost(t)
		wantEndInTheUnit(t)
	default:
		nspawntest.Require(t)
		m := nspawntest.New(t, "/")
		m.Copy("/usr/lib/systemd/catalog/locksmith.catalog", module+"/systemd/locksmith.catalog", 0o644)
		m.Copy("/systemd/locksmith.catalog", module+"/systemd/locksmith.catalog", 0o644) // to compare with
		m.Copy("/messageid.go", "messageid.go", 0o644)
		for _, name := range []string{"natively", "on-the-stream", "much", "at-the-end"} {
			m.Write("/etc/systemd/system/"+name+".service", `[Service]
Type=oneshot
Environment=`+speaksVariable+"="+name+`
ExecStart=/program.test -test.run=^TestRealJournal$
StandardOutput=null
StandardError=journal
`)
		}
		m.RunTest()
	}
}

// do runs a command and returns its output.
func do(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(args[0], args[1:]...).Output()
	if err != nil {
		t.Fatalf("%q: %v\n%s", args, err, out)
	}
	return string(out)
}

// entries returns the entries that match, see journalctl(1).
func entries(t *testing.T, match string) (all []map[string]any) {
	t.Helper()
	do(t, "journalctl", "--sync")
	d := json.NewDecoder(strings.NewReader(do(t, "journalctl", "--output=json", match)))
	for {
		var entry map[string]any
		if err := d.Decode(&entry); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, entry)
	}
}

// An entry that is sent has what a line of the stream has, and the facts.
func wantSame(t *testing.T) {
	t.Helper()
	sent, streamed := entries(t, "_SYSTEMD_UNIT=natively.service"), entries(t, "_SYSTEMD_UNIT=on-the-stream.service")
	if want := strings.Count(onTheStream, "\n"); len(sent) != want || len(streamed) != want {
		t.Fatalf("there are %d and %d lines, want %d:\n%v\n%v", len(sent), len(streamed), want, sent, streamed)
	}
	for i := range sent {
		for _, field := range []string{"MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER", "SYSLOG_FACILITY"} {
			if sent[i][field] == nil || sent[i][field] != streamed[i][field] {
				t.Errorf("%s of line %d is %q, and on the stream %q", field, i, sent[i][field], streamed[i][field])
			}
		}
		if sent[i]["_TRANSPORT"] != "journal" || streamed[i]["_TRANSPORT"] != "stdout" {
			t.Errorf("line %d came by %q and %q", i, sent[i]["_TRANSPORT"], streamed[i]["_TRANSPORT"])
		}
	}
	found := do(t, "journalctl", "--output=cat", "LOCKSMITH_STATE=waiting", "LOCKSMITH_GROUP=", "LOCKSMITH_VERSION=4081.2.0", "LOCKSMITH_FROM=idle")
	if found != "msg=waiting from=idle\n" {
		t.Errorf("journalctl finds %q by the facts", found)
	}
}

// journalctl explains every kind of line.
func wantExplained(t *testing.T) {
	t.Helper()
	do(t, "journalctl", "--update-catalog")
	explained := catalog(t)
	listed := do(t, append([]string{"journalctl", "--dump-catalog"}, slices.Collect(maps.Values(messageIDs(t)))...)...)
	for id, e := range explained {
		if !strings.Contains(listed, "-- "+id+"\n") || !strings.Contains(listed, e.text) {
			t.Errorf("journalctl does not know %s (%s)", id, e.headers["Subject"])
		}
	}
	shown := do(t, "journalctl", "--catalog", "--no-pager", "MESSAGE_ID="+string(EnteredWaiting))
	for _, want := range []string{
		"Subject: This host waits until it may reboot", "Documentation: man:locksmithd(8)",
		`for version "4081.2.0" if one`, "the host may not begin yet: an update.", "locksmithctl hold",
	} {
		if !strings.Contains(shown, want) {
			t.Errorf("journalctl -x does not show %q:\n%s", want, shown)
		}
	}
}

// Lines that journald does not take while it is stopped are in the journal when it goes on.
func wantNoneLost(t *testing.T) {
	t.Helper()
	do(t, "systemctl", "kill", "--signal=STOP", "systemd-journald")
	do(t, "systemctl", "start", "much") // waits for its end
	do(t, "systemctl", "kill", "--signal=CONT", "systemd-journald")
	lines, by := map[string]int{}, map[any]int{}
	for _, entry := range entries(t, "SYSLOG_IDENTIFIER=program.test") {
		if message, _ := entry["MESSAGE"].(string); strings.HasPrefix(message, "msg=line ") {
			lines[message]++
			by[entry["_TRANSPORT"]]++
		}
	}
	for n := range many {
		if line := fmt.Sprintf("msg=line n=%d", n); lines[line] != 1 {
			t.Fatalf("%q is there %d times", line, lines[line])
		}
	}
	if len(lines) != many || by["journal"] == 0 || by["stdout"] == 0 {
		t.Errorf("%d lines, by %v", len(lines), by)
	}
}

// said exists once the service at-the-end has written its line.
const said = "/run/said"

// journalctl -u shows why a program ended, however late journald reads it.
func wantEndInTheUnit(t *testing.T) {
	t.Helper()
	do(t, "systemctl", "kill", "--signal=STOP", "systemd-journald")
	do(t, "systemctl", "start", "--no-block", "at-the-end")
	must.Eventually(t, time.Minute, "the line of at-the-end", func() bool { _, err := os.Stat(said); return err == nil })
	do(t, "systemctl", "show", "at-the-end") // systemd notices an end first
	do(t, "systemctl", "kill", "--signal=CONT", "systemd-journald")
	must.Eventually(t, time.Minute, "that line in the journal", func() bool { return len(entries(t, "LOCKSMITH_REASON=that is why it ends")) == 1 })
	if shown := do(t, "journalctl", "--no-pager", "--unit=at-the-end"); !strings.Contains(shown, "program.test") {
		t.Errorf("journalctl -u does not show the line:\n%s", shown)
	}
}
