package main

import (
	"testing"
	"time"

	"github.com/locksmithd/locksmith/test/etcdtest"
)

// Ctrl-S stops the terminal, and every program that writes to it. The first in the queue must take its slot
// nevertheless, and not hold up those behind it.
func TestLockThatWaitsOnAStoppedTerminalTakesItsSlot(t *testing.T) {
	t.Parallel()
	server := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{})
	mustRun(t, server, "lock", "a")
	b := startOnTerminal(t, server, "lock", "-wait", "b")
	b.expect("waiting: first in the queue; no slot is free: max is 1, held by a")
	b.enter("\x13")
	mustRun(t, server, "pause", "-reason", "so that there is something to say") // and writing it blocks
	mustRun(t, server, "resume")
	c := start(t, server, "lock", "-wait", "c")
	c.expect("waiting: in the queue behind b")
	mustRun(t, server, "unlock", "a")
	select {
	case <-b.Done():
	case <-time.After(patience):
		t.Fatal("the slot is free, but b waits for its terminal")
	}
	b.exit(0)
	c.expect("waiting: first in the queue; no slot is free: max is 1, held by b")
	mustRun(t, server, "unlock", "b")
	c.exit(0)
}
