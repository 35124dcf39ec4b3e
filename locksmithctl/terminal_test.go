package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/ptytest"
)

// do runs a command that must succeed.
func do(t *testing.T, server *etcdtest.Server, args ...string) {
	t.Helper()
	if r := atOnce(t, server, [][]string{args})[0]; r.code != 0 {
		t.Fatalf("%v exits with %d and says %s", args, r.code, r.stderr)
	}
}

// putKey writes past locksmithctl.
func putKey(t *testing.T, server *etcdtest.Server, key, value string) {
	t.Helper()
	client, err := server.Client()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Put(t.Context(), key, value); err != nil {
		t.Fatal(err)
	}
}

func TestWatchWritesALineForEveryChange(t *testing.T) {
	t.Parallel()
	server := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{})
	do(t, server, "status")
	text := start(t, server, "status", "-watch")
	json := start(t, server, "status", "-watch", "-o", "json")
	yaml := start(t, server, "-output=yaml", "status", "--watch")
	text.see(`^\w{3} [-0-9: ]+ UTC  1 of 1 available; 0 waiting; reboots: 0 since [0-9:]+; end: nobody waits\n`)
	json.see(`^\{"group":"","available":1,"max":1,"paused":null,"holders":\[\],"queue":\[\],"progress":\{"since":"[^"]+Z","reboots":0,"per_hour":null,"end":null\}\}\n`)
	yaml.see(`^---\ngroup: ""\navailable: 1\nmax: 1\npaused: null\nholders: \[\]\nqueue: \[\]\nprogress:\n +since: .*\n +reboots: 0\n +per_hour: null\n +end: null\n`)

	do(t, server, "lock", "a")
	text.see(`^.*  taken by a; 0 of 1 available; 0 waiting; reboots: 0 since .*\n`)
	json.see(`^\{.*"holders":\[\{"id":"a",.*"queue":\[\],.*\}\n`)
	yaml.see(`^---\ngroup: ""\navailable: 0\n(.*\n)*queue: \[\]\nprogress:\n(.*\n)* +end: null\n`)
	b := start(t, server, "lock", "-wait", "b")
	text.see(`0 of 1 available; 1 waiting; `)
	do(t, server, "pause", "-reason", "bad release")
	text.see(`paused: by .*: bad release; .*; end: not in sight while paused\n`)
	do(t, server, "resume")
	text.see(`paused: no; .*\n`)
	do(t, server, "unlock", "a")
	text.see(`given back by a; (.*\n.*)?taken by b; .* 0 waiting; reboots: 1 since .* an hour; end: in about .*\n`)
	json.see(`"reboots":1,"per_hour":[0-9.]+,"end":"[^"]+Z"\}\}\n`)
	b.end(0)
	do(t, server, "-group=other", "lock", "c") // not of this group, but no change is missed for it
	do(t, server, "pause", "-all-groups")
	text.see(`paused: all groups, by `)

	// Etcd goes away and comes back.
	server.Kill()
	text.see(`locksmithctl: watch the lock: .*; still trying\n`)
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	do(t, server, "set-max", "7")
	text.see(`6 of 7 available`)

	// Whoever watches ends it with an interrupt: no failure.
	for _, r := range []*running{text, json, yaml} {
		r.interrupt()
		r.end(0)
	}
}

func TestWatchEndsWhereEtcdRefuses(t *testing.T) {
	server := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{})
	do(t, server, "status")
	plain := start(t, server, "status", "-watch")
	live := startOnTerminal(t, server, "status", "-watch")
	plain.see("1 of 1")
	live.see("1 of 1")
	putKey(t, server, defaultKey, "not JSON")
	if got := plain.end(1); !strings.Contains(got, "locksmithctl: watch the lock: cannot use the semaphore at etcd key") {
		t.Errorf("it says %q", got)
	}
	_, after, left := strings.Cut(live.end(1), leavesView)
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
	do(t, server, "lock", "a")
	r := startOnTerminal(t, server, "status", "-watch")
	if got := r.see("held, 0 waiting"); !strings.HasPrefix(got, entersView) {
		t.Errorf("it begins with %q", got)
	}
	r.see("\x1b\\[H(?s:.*)\na +- +- ")
	b := start(t, server, "lock", "-wait", "b")
	r.see("1 waiting")
	r.see("\n1 +b ")
	do(t, server, "unlock", "a")
	r.see("reboots: 1 since")
	b.end(0)
	server.Kill()
	r.see("OUT OF DATE: ")
	r.interrupt()
	view, after, left := strings.Cut(r.end(0), leavesView)
	if !left || after != "" || strings.Contains(view, entersView) {
		t.Errorf("the terminal is not given back: %q", after)
	}

	// In a format for programs, or where the terminal cannot, it does not.
	server = etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{})
	do(t, server, "status")
	for _, args := range [][]string{{"status", "-watch", "-o", "json"}, {"status", "-watch", "-o", "yaml"}} {
		r := startOnTerminal(t, server, args...)
		seen := r.see("available.*1")
		r.interrupt()
		if seen += r.end(0); strings.Contains(seen, "\x1b") {
			t.Errorf("%v writes %q", args, seen)
		}
	}
}

// Ctrl-S stops the terminal, and with it whoever writes to it: the first in the queue takes its slot all the
// same, and holds nobody up.
func TestLockThatWaitsOnAStoppedTerminalTakesItsSlot(t *testing.T) {
	t.Parallel()
	server := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{})
	do(t, server, "lock", "a")
	b := startOnTerminal(t, server, "lock", "-wait", "b")
	b.see("waiting: first in the queue; no slot is free: max is 1, held by a")
	b.enter("\x13")
	do(t, server, "pause", "-reason", "so that there is something to say") // which blocks
	do(t, server, "resume")
	c := start(t, server, "lock", "-wait", "c")
	c.see("waiting: in the queue behind b")
	do(t, server, "unlock", "a")
	select {
	case <-b.Done():
	case <-time.After(patience):
		t.Fatal("the slot is free, and b waits for its terminal")
	}
	b.end(0)
	c.see("waiting: first in the queue; no slot is free: max is 1, held by b")
	do(t, server, "unlock", "b")
	c.end(0)
}

// An answer that comes from elsewhere may be meant for something else, and a question
// that goes elsewhere is not seen.
func TestUnlockAsksNobodyButOnATerminal(t *testing.T) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, *etcdtest.Server, ...string) *running
	}{
		{"answer from a pipe", func(t *testing.T, server *etcdtest.Server, args ...string) *running {
			in, answer := pipe(t)
			if _, err := answer.WriteString("y\n"); err != nil {
				t.Fatal(err)
			}
			program, screen := ptytest.Open(t)
			return startOn(t, server, in, screen, program, args)
		}},
		{"question to a pipe", func(t *testing.T, server *etcdtest.Server, args ...string) *running {
			program, screen := ptytest.Open(t)
			if _, err := screen.WriteString("y\n"); err != nil {
				t.Fatal(err)
			}
			read, write := pipe(t)
			return startOn(t, server, program, read, write, args)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{})
			putKey(t, server, defaultKey, `{"semaphore":0,"max":1,"holders":["dead"]}`)
			putKey(t, server, keys+"/holders/dead", `{"hostname":"web-1","ttl":"1h0m0s"}`)
			got := strings.ReplaceAll(test.run(t, server, "unlock", "-expired").end(1), "\r\n", "\n")
			if !strings.Contains(got, "\ndead ") || !strings.HasSuffix(got, "\nlocksmithctl: unlock: nothing was changed: there is no terminal to ask on; -yes frees them without asking\n") {
				t.Errorf("it says %q", got)
			}
			if left := status(t, server).Holders; len(left) != 1 {
				t.Errorf("left are %q", left)
			}
		})
	}
}

func TestUnlockAsksOnATerminal(t *testing.T) {
	const (
		record   = keys + "/holders/"
		document = `{"semaphore":1,"max":3,"holders":["dead","gone"]}`
		question = `free these 2 slots\? \[y/N\] $`
	)
	both := []string{"dead", "gone"}
	for _, test := range []struct {
		name   string
		answer func(*testing.T, *running, *etcdtest.Server)
		status int
		says   string
		left   []string
	}{
		{"y", func(_ *testing.T, r *running, _ *etcdtest.Server) { r.enter("y\n") }, 0, "y\r\n", nil},
		{"yes", func(_ *testing.T, r *running, _ *etcdtest.Server) { r.enter(" Yes \n") }, 0, " Yes \r\n", nil},
		{"n", func(_ *testing.T, r *running, _ *etcdtest.Server) { r.enter("n\n") }, 1, "n\r\nlocksmithctl: unlock: nothing was changed\r\n", both},
		{"nothing", func(_ *testing.T, r *running, _ *etcdtest.Server) { r.enter("\n") }, 1, "\r\nlocksmithctl: unlock: nothing was changed\r\n", both},
		{"yellow", func(_ *testing.T, r *running, _ *etcdtest.Server) { r.enter("yellow\n") }, 1, "yellow\r\nlocksmithctl: unlock: nothing was changed\r\n", both},
		{"end of file", func(_ *testing.T, r *running, _ *etcdtest.Server) { r.enter("\x04") }, 1, "locksmithctl: unlock: nothing was changed\r\n", both},
		{"interrupt", func(_ *testing.T, r *running, _ *etcdtest.Server) { r.interrupt() }, 1, "\r\nlocksmithctl: interrupted: unlock: nothing was changed: context canceled\r\n", both},
		{"what has changed stays", func(t *testing.T, r *running, server *etcdtest.Server) {
			putKey(t, server, record+"dead", `{"hostname":"web-1","boot_id":"2","since":"2027-01-02T10:30:00Z","by":"locksmithd","ttl":"1h0m0s"}`)
			r.enter("y\n")
		}, 1, "y\r\nlocksmithctl: release the slot of dead: the slot of dead was released or taken again in the meantime\r\nlocksmithctl: unlock: 1 of 2 slots not freed\r\n", []string{"dead"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{})
			putKey(t, server, defaultKey, document)
			for i, id := range both {
				putKey(t, server, record+id, fmt.Sprintf(`{"hostname":"web-%d","boot_id":"1","since":"2025-01-02T10:30:00Z","by":"locksmithd","ttl":"1h0m0s"}`, i+1))
			}
			r := startOnTerminal(t, server, "unlock", "-expired")
			if got := r.see(question); !strings.HasPrefix(got, "MACHINE ID  HOSTNAME  VERSION  AGE") || !strings.Contains(got, "\ndead        web-1     - ") {
				t.Errorf("it shows %q", got)
			}
			test.answer(t, r, server)
			if got := r.end(test.status); got != test.says {
				t.Errorf("it says %q, want %q", got, test.says)
			}
			if got := status(t, server).Holders; fmt.Sprint(got) != fmt.Sprint(test.left) {
				t.Errorf("left are %q, want %q", got, test.left)
			}
		})
	}
}
