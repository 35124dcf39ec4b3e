package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/ptytest"
)

// An answer that does not come from a terminal may be meant for something else, and a question that does not go to one
// is not seen.
func TestUnlockAsksOnlyOnATerminal(t *testing.T) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, *etcdtest.Server, ...string) *running
	}{
		{"answer from a pipe", func(t *testing.T, server *etcdtest.Server, args ...string) *running {
			in, answer := pipe(t)
			_, err := answer.WriteString("y\n")
			must.Do(t, err)
			program, screen := ptytest.Open(t)
			return startOn(t, server, in, screen, program, args)
		}},
		{"question to a pipe", func(t *testing.T, server *etcdtest.Server, args ...string) *running {
			program, screen := ptytest.Open(t)
			_, err := screen.WriteString("y\n")
			must.Do(t, err)
			read, write := pipe(t)
			return startOn(t, server, program, read, write, args)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{})
			putKey(t, server, semaphoreKey, `{"semaphore":0,"max":1,"holders":["dead"]}`)
			putKey(t, server, keys+"/holders/dead", `{"hostname":"web-1","ttl":"1h0m0s"}`)
			got := strings.ReplaceAll(test.run(t, server, "unlock", "-expired").exit(1), "\r\n", "\n")
			if !strings.Contains(got, "\ndead ") || !strings.HasSuffix(got, "\nlocksmithctl: unlock: nothing was changed: there is no terminal to ask on; -yes frees them without asking\n") {
				t.Errorf("it says %q", got)
			}
			if left := semaphore(t, server).Holders; len(left) != 1 {
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
			putKey(t, server, semaphoreKey, document)
			for i, id := range both {
				putKey(t, server, record+id, fmt.Sprintf(`{"hostname":"web-%d","boot_id":"1","since":"2025-01-02T10:30:00Z","by":"locksmithd","ttl":"1h0m0s"}`, i+1))
			}
			r := startOnTerminal(t, server, "unlock", "-expired")
			if got := r.expect(question); !strings.HasPrefix(got, "MACHINE ID  HOSTNAME  VERSION  AGE") || !strings.Contains(got, "\ndead        web-1     - ") {
				t.Errorf("it shows %q", got)
			}
			test.answer(t, r, server)
			if got := r.exit(test.status); got != test.says {
				t.Errorf("it says %q, want %q", got, test.says)
			}
			if got := semaphore(t, server).Holders; fmt.Sprint(got) != fmt.Sprint(test.left) {
				t.Errorf("left are %q, want %q", got, test.left)
			}
		})
	}
}
