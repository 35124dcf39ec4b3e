package main

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/internal/inventory"
	"github.com/locksmithd/locksmith/lock/etcd"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
)

const fleetKey = keys + "/fleet/"

// writtenNow is the end of a record that was written now.
func writtenNow() string { return `"updated":"` + time.Now().UTC().Format(time.RFC3339) + `"}` }

func TestWatchOfHostsWritesALineForEveryHostThatChanges(t *testing.T) {
	t.Parallel()
	server := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{})
	putKey(t, server, fleetKey+"a", `{"hostname":"web-1","state":"idle","why":"no reboot is needed",`+writtenNow())
	text := start(t, server, "hosts", "-watch")
	json := start(t, server, "hosts", "-watch", "-o", "json")
	idle := start(t, server, "hosts", "-watch", "-all-groups", "-state", "idle")
	text.expect(`^\w{3} [-0-9: ]+ UTC  web-1 \(a\): idle: no reboot is needed\n`)
	json.expect(`^\{"group":"","id":"a","hostname":"web-1",.*"state":"idle",.*"unreadable":false\}\n`)
	idle.expect(`web-1 \(a\): idle: `)

	putKey(t, server, fleetKey+"a", `{"hostname":"web-1","state":"waiting","waits_for":"users","why":"ann is logged in",`+writtenNow())
	text.expect(`web-1 \(a\): waiting, was idle: ann is logged in\n`)
	json.expect(`"state":"waiting",.*"waits_for":"users",.*\n`)
	idle.expect(`web-1 \(a\): not among these hosts any more, was idle\n`)

	mustRun(t, server, "lock", "b")
	text.expect(`  b: holding: a slot was taken by locksmithctl\n`)
	putKey(t, server, keys+"/groups/lb/fleet/c", `{"hostname":"lb-1","state":"idle"}`)
	idle.expect(`lb-1 \(c\): idle\n`)
	mustRun(t, server, "hosts", "forget", "a")
	text.expect(`web-1 \(a\): not among these hosts any more, was waiting\n`)
	json.expect(`"id":"a",.*"gone":true\}\n`)

	server.Kill()
	text.expect(`locksmithctl: watch the hosts: .*; still trying\n`)
	must.Do(t, server.Restart(t.Context()))
	mustRun(t, server, "lock", "-group=lb", "c")
	idle.expect(`lb-1 \(c\): not among these hosts any more, was idle\n`)
	for _, r := range []*running{text, json, idle} {
		r.interrupt()
		r.exit(0)
	}
}

func TestWatchOfHostsOnATerminalRedrawsInPlace(t *testing.T) {
	t.Parallel()
	server := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{})
	for n := range 100 {
		putKey(t, server, fmt.Sprintf("%shost-%02d", fleetKey, n), fmt.Sprintf(`{"hostname":"web-%02d","state":"idle",`, n)+writtenNow())
	}
	r := startOnTerminal(t, server, "hosts", "-watch")
	if got := r.expect("100 hosts: 100 idle"); !strings.HasPrefix(got, entersView) {
		t.Errorf("it begins with %q", got)
	}
	r.expect("and [0-9]+ more")
	putKey(t, server, fleetKey+"host-99", `{"hostname":"web-99","state":"unwell","why":"no quorum",`+writtenNow())
	r.expect(`WHY\S*\s+web-99 +- +unwell +- +no quorum`) // first
	r.interrupt()
	if _, after, left := strings.Cut(r.exit(0), leavesView); !left || after != "" {
		t.Errorf("the terminal is not given back: %q", after)
	}
}

// Whoever may write below fleet/ can write anything there: see the test of package inventory.
func TestHostileRecordsHarmNoTerminal(t *testing.T) {
	t.Parallel()
	server := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{})
	huge := strings.Repeat(`\u001b[31mx`, 1<<20/11)
	for id, value := range map[string]string{
		"a": `{"hostname":"` + huge + `"}`, "b": `{"hostname":"\u001b]0;x\u0007","state":"\u202eeldi","why":"<script>\n\u009b2J","waits_for":"\r\n"}`,
		"c\x1b[2J": "{}", "d/../e": "{}", "f\xff": "{}", "g": `{"state":[]}`, "h": `{"need":{"version":"\u001b[2J","reasons":["\u001b[2J"]},"window":{"start":"\u001b[2J","blackout":"\u2028"}}`,
		"i": huge, "j": "{}\x00", "k": `{"last_reboot":{"took_ns":9223372036854775807,"at":"9999-12-31T23:59:59Z","why":"\u001b[2J"},"state":"idle"}`,
	} {
		putKey(t, server, fleetKey+id, value)
	}
	for _, format := range []string{"text", "wide", "json", "yaml"} {
		r := runOne(t, server, "hosts", "-o", format)
		if r.code != 0 || len(r.stdout) > 20_000 || strings.ContainsFunc(r.stdout+r.stderr, func(c rune) bool {
			return c < ' ' && c != '\n' || c == 0x7f || c >= 0x80 && c < 0xa0 || c == 0x202e || c == 0x2028
		}) {
			t.Errorf("%s exits with %d, prints %q and says %q", format, r.code, r.stdout, r.stderr)
		}
		if lines := strings.Count(r.stdout, "\n"); (format == "text" || format == "wide") && lines != 11 {
			t.Errorf("%s has %d lines:\n%s", format, lines, r.stdout)
		}
	}
}

// BenchmarkHosts runs hosts and plan with 10,000 records in a real etcd.
func BenchmarkHosts(b *testing.B) {
	binary := filepath.Join(b.TempDir(), "locksmithctl")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		b.Fatalf("build: %v\n%s", err, out)
	}
	server := etcdtest.MustStart(b, etcdtest.Newest, etcdtest.Options{})
	store := etcd.New(etcd.Config{Endpoints: server.Endpoint()})
	defer store.Close()
	records, err := inventory.New(store, "")
	must.Do(b, err)
	at := time.Now().Add(-time.Hour)
	for n := range 10_000 {
		must.Do(b, records.Put(b.Context(), inventory.Host{
			ID: fmt.Sprintf("%032x", n), Hostname: fmt.Sprintf("node-%05d.fleet.example.com", n), OS: "Flatcar Container Linux by Kinvolk",
			OSVersion: "4152.2.0", Locksmith: "0.8.0", Booted: at, Updated: at, State: inventory.Waiting, Since: at, WaitsFor: "window",
			Why:    "waiting since Mon 2026-11-30 21:45:22 UTC for the reboot window, which opens Sun 2026-12-06 04:00:00 UTC",
			Need:   &inventory.Need{Version: "4230.2.1", Since: at, Reasons: []string{"update_engine"}},
			Window: &inventory.Window{Start: "Sun 04:00", Length: "1h", Zone: "Europe/Berlin"}, Opens: at, Shuts: at,
			Last: &inventory.Reboot{Version: "4152.2.0", At: at, Took: time.Minute, Well: true},
		}))
	}
	for _, command := range []string{"hosts", "hosts -o wide", "hosts -o json", "hosts -o yaml", "plan"} {
		b.Run(command, func(b *testing.B) {
			var took, cpu time.Duration
			for b.Loop() {
				cmd := exec.Command(binary, append([]string{"--root=" + b.TempDir(), "-endpoint=" + server.Endpoint()}, strings.Fields(command)...)...)
				begin := time.Now()
				out, err := cmd.Output()
				must.Do(b, err)
				took += time.Since(begin)
				cpu += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
				if !strings.Contains(string(out), "node-09999") {
					b.Fatalf("it prints %.200q", out)
				}
			}
			b.ReportMetric(float64(took.Milliseconds())/float64(b.N), "ms")
			b.ReportMetric(float64(cpu.Milliseconds())/float64(b.N), "CPU-ms")
			b.ReportMetric(0, "ns/op")
		})
	}
}
