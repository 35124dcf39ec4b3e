package processes

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/test/bustest"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/simhost"
)

// The commands in the README, run in order on a fleet as the README describes it, print what it shows, except for
// times, the user, and the width of columns.
func TestCommandsOfTheReadmePrintWhatItShows(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	must.Do(t, err)
	g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
	newNamed := func(name, id string, settings ...string) *host {
		h := newHost(t, g.conf(settings...), func(o *simhost.Options) { o.MachineID = id })
		must.Do(t, h.Rename(name))
		h.Engine.Set(bustest.Status{Operation: bustest.OperationNeedReboot, NewVersion: "4230.2.1"})
		h.start()
		return h
	}
	web1 := newNamed("web-1", "69d27b356a94476da859461d3a3bc6fd")
	web1.awaitReboot()
	newNamed("web-3", "b8a1c1c2f9de4ad3a7c7b7a3de0d8a11").awaitStatus("no slot is free", "web-1")
	// It is shown that another host waits for its window, and only the beginning of that.
	later := "LOCKSMITHD_REBOOT_WINDOW_START=" + time.Now().Add(6*time.Hour).Format("15:04")
	web2 := newNamed("web-2", "0f5c1a3e0b6c4c2c8a53a9d8f0c4b7e2", later, "LOCKSMITHD_REBOOT_WINDOW_LENGTH=1h")
	web2.awaitStatus("for the reboot window") // before that, etcd is asked whether it holds a slot
	web2.awaitHost("a shut window", func(d hostDocument) bool { return strings.HasPrefix(d.gate("window"), "no ") })

	commands := regexp.MustCompile(`(?m)^    \$ locksmithctl (.*)\n((?:\n?    [^$\n].*\n)*)`).FindAllStringSubmatch(string(readme), -1)
	if len(commands) != 6 {
		t.Fatalf("the README shows %d commands, want 6", len(commands))
	}
	for _, c := range commands {
		var args []string
		for _, arg := range regexp.MustCompile(`"[^"]*"|\S+`).FindAllString(c[1], -1) {
			args = append(args, strings.Trim(arg, `"`))
		}
		on, shown := web1, func(got, want string) bool { return got == want }
		if c[1] == "status -host" {
			on, shown = web2, strings.HasPrefix
		}
		r := on.run(locksmithctl(), args...)
		if got, want := steady(r.stdout+r.stderr), steady(c[2]); r.status != 0 || !shown(got, want) {
			t.Errorf("locksmithctl %s: status %d\n%s\nthe README shows\n%s", c[1], r.status, got, want)
		}
	}
}

// steady returns the output of a command with names in place of the parts that vary.
func steady(output string) string {
	for _, vary := range []struct{ pattern, name string }{
		{`[A-Z][a-z]{2} \d{4}-\d\d-\d\d \d\d:\d\d:\d\d [A-Z]+`, "TIME"},
		{`\b\d+[hms][\dms]*\b`, "AGE"},
		{`by \S+@[\w-]+`, "by USER"},
		{`[ \n]+`, " "},
	} {
		output = regexp.MustCompile(vary.pattern).ReplaceAllString(output, vary.name)
	}
	return strings.TrimSpace(output)
}
