package main

import (
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/internal/view"
	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
)

func TestWatchWritesNothingWithoutAChange(t *testing.T) {
	free := lock.Overview{Semaphore: lock.Semaphore{Free: 1, Max: 1}}
	held := lock.Overview{Semaphore: lock.Semaphore{Max: 1, Holders: []string{"1"}}, Holders: []lock.HolderInfo{{ID: "1"}}}
	for _, f := range []view.Format{view.Text, view.JSON} {
		var out strings.Builder
		w := &lockWatcher{display{app: &app{process: process{stdout: &out, now: time.Now}}, format: f}, view.NewWatch("")}
		for i, o := range []lock.Overview{free, free, held, held} {
			before := out.Len()
			must.Do(t, w.observe(o, nil))
			if changed := i%2 == 0; (out.Len() > before) != changed {
				t.Errorf("%v: overview %d was written: %v", f, i, !changed)
			}
		}
	}
}

func TestWatchWritesALineForEveryChange(t *testing.T) {
	t.Parallel()
	server := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{})
	mustRun(t, server, "status")
	text := start(t, server, "status", "-watch")
	json := start(t, server, "status", "-watch", "-o", "json")
	yaml := start(t, server, "-output=yaml", "status", "--watch")
	text.expect(`^\w{3} [-0-9: ]+ UTC  1 of 1 available; 0 waiting; reboots: 0 since [0-9:]+; end: nobody waits\n`)
	json.expect(`^\{"group":"","available":1,"max":1,"paused":null,"holders":\[\],"queue":\[\],"progress":\{"since":"[^"]+Z","reboots":0,"per_hour":null,"end":null\}\}\n`)
	yaml.expect(`^---\ngroup: ""\navailable: 1\nmax: 1\npaused: null\nholders: \[\]\nqueue: \[\]\nprogress:\n +since: .*\n +reboots: 0\n +per_hour: null\n +end: null\n`)

	mustRun(t, server, "lock", "a")
	text.expect(`^.*  taken by a; 0 of 1 available; 0 waiting; reboots: 0 since .*\n`)
	json.expect(`^\{.*"holders":\[\{"id":"a",.*"queue":\[\],.*\}\n`)
	yaml.expect(`^---\ngroup: ""\navailable: 0\n(.*\n)*queue: \[\]\nprogress:\n(.*\n)* +end: null\n`)
	b := start(t, server, "lock", "-wait", "b")
	text.expect(`0 of 1 available; 1 waiting; `)
	mustRun(t, server, "pause", "-reason", "bad release")
	text.expect(`paused: by .*: bad release; .*; end: not in sight while paused\n`)
	mustRun(t, server, "resume")
	text.expect(`paused: no; .*\n`)
	mustRun(t, server, "unlock", "a")
	text.expect(`given back by a; (.*\n.*)?taken by b; .* 0 waiting; reboots: 1 since .* an hour; end: in about .*\n`)
	json.expect(`"reboots":1,"per_hour":[0-9.]+,"end":"[^"]+Z"\}\}\n`)
	b.exit(0)
	mustRun(t, server, "-group=other", "lock", "c") // another group, after which changes of this one are still seen
	mustRun(t, server, "pause", "-all-groups")
	text.expect(`paused: all groups, by `)

	// Etcd ends and starts again.
	server.Kill()
	text.expect(`locksmithctl: watch the lock: .*; still trying\n`)
	must.Do(t, server.Restart(t.Context()))
	mustRun(t, server, "set-max", "7")
	text.expect(`6 of 7 available`)

	// An interrupt ends a watch: that is not a failure.
	for _, r := range []*running{text, json, yaml} {
		r.interrupt()
		r.exit(0)
	}
}

func TestWatchEndsIfTheLockCannotBeUnderstood(t *testing.T) {
	server := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{})
	mustRun(t, server, "status")
	plain := start(t, server, "status", "-watch")
	live := startOnTerminal(t, server, "status", "-watch")
	plain.expect("1 of 1")
	live.expect("1 of 1")
	putKey(t, server, semaphoreKey, "not JSON")
	if got := plain.exit(1); !strings.Contains(got, "locksmithctl: watch the lock: cannot use the semaphore at etcd key") {
		t.Errorf("it says %q", got)
	}
	_, after, left := strings.Cut(live.exit(1), leavesView)
	if !left || !strings.Contains(after, "locksmithctl: watch the lock: cannot use the semaphore at etcd key") {
		t.Errorf("after the view it says %q", after)
	}
}

const (
	entersView = "\x1b[?1049h\x1b[?25l"
	leavesView = "\x1b[?25h\x1b[?1049l"
)

func TestWatchOnATerminalRedrawsInPlace(t *testing.T) {
	t.Parallel()
	server := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{})
	mustRun(t, server, "lock", "a")
	r := startOnTerminal(t, server, "status", "-watch")
	if got := r.expect("held, 0 waiting"); !strings.HasPrefix(got, entersView) {
		t.Errorf("it begins with %q", got)
	}
	r.expect("\x1b\\[H(?s:.*)\na +- +- ")
	b := start(t, server, "lock", "-wait", "b")
	r.expect("1 waiting")
	r.expect("\n1 +b ")
	mustRun(t, server, "unlock", "a")
	r.expect("reboots: 1 since")
	b.exit(0)
	server.Kill()
	r.expect("OUT OF DATE: ")
	r.interrupt()
	view, after, left := strings.Cut(r.exit(0), leavesView)
	if !left || after != "" || strings.Contains(view, entersView) {
		t.Errorf("the terminal is not given back: %q", after)
	}

	// In a format for programs nothing is drawn in place.
	server = etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{})
	mustRun(t, server, "status")
	for _, args := range [][]string{{"status", "-watch", "-o", "json"}, {"status", "-watch", "-o", "yaml"}} {
		r := startOnTerminal(t, server, args...)
		seen := r.expect("available.*1")
		r.interrupt()
		if seen += r.exit(0); strings.Contains(seen, "\x1b") {
			t.Errorf("%v writes %q", args, seen)
		}
	}
}
