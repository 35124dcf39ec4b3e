package lock_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/storetest"
)

// Two hosts with one machine id: one is the head of the queue when the other one gets the slot by hand. The
// event of the document may come before that of the record, which says for which host it was.
func TestHeadDoesNotMistakeTheSlotOfItsCloneForItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		other := enter(t, s, "other", lock.Record{})
		head := enter(t, s, "x", lock.Record{Hostname: "web-1", BootID: "1"})
		if !other.got(t) || head.got(t) {
			t.Fatal("the head does not wait")
		}
		_, _, err := s.Commit(t.Context(), nil, []lock.Op{
			{Key: defaultKey, Value: []byte(`{"semaphore":0,"max":1,"holders":["x"]}`)},
			{Key: prefix + "holders/x", Value: []byte(`{"hostname":"web-2","boot_id":"2"}`)},
		})
		must.Do(t, err)
		synctest.Wait()
		var clone *lock.CloneError
		select {
		case err := <-head.done:
			if !errors.As(err, &clone) {
				t.Errorf("the slot of web-2 is that of web-1: %v", err)
			}
		default:
			t.Error("web-1 waits on")
		}
	})
}

func TestLockByHandIsRefusedWhereACloneWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		enter(t, s, "a", lock.Record{})
		web1 := enter(t, s, "x", lock.Record{Hostname: "web-1", BootID: "1"})
		put(t, s, prefix+"pause", "{}")
		must.Do(t, newLock(t, s, "").Release(t.Context(), "a"))
		watched := storetest.Before(s, isCommit, func() { t.Error("web-2 tries to take a slot") })
		_, err := newLock(t, watched, "").TryAcquire(t.Context(), "x", lock.Record{Hostname: "web-2", BootID: "2"})
		var clone *lock.CloneError
		if !errors.As(err, &clone) || clone.Other.Hostname != "web-1" {
			t.Errorf("lock by hand of web-2, where web-1 waits under the same id: %v", err)
		}
		if web1.got(t) || !slices.Equal(queueIDs(t, s), []string{"x"}) {
			t.Error("web-1 has lost its place")
		}
	})
}

// Each of these finds a slot, or a place in the queue, under its machine id.
func TestClonesAreRefusedAndRenamedHostsAreNot(t *testing.T) {
	web1 := lock.Record{Hostname: "web1", BootID: "1"}
	with := func(name, hardware, token string) lock.Record {
		return lock.Record{Hostname: name, BootID: "1", Hardware: hardware, Token: token}
	}
	for what, test := range map[string]struct {
		found    lock.Record
		hostname string
		hardware string
		disk     string // the tokens on it
		sameBoot bool
		apart    string // what tells them apart; "" if it is the same host
	}{
		"another name":             {found: web1, hostname: "web2", apart: "name"},
		"after a reboot":           {found: web1, hostname: "web1"},
		"renamed during this boot": {found: web1, hostname: "web2", sameBoot: true},
		"without a name":           {found: web1},
		"localhost":                {found: web1, hostname: "localhost"},
		"localhost with a domain":  {found: web1, hostname: "localhost.localdomain"},
		"record of an older version, after its update": {found: web1, hostname: "web1", hardware: "vm-1", disk: "t1"},
		"record of an older version, of another":       {found: web1, hostname: "web2", hardware: "vm-1", disk: "t1", apart: "name"},

		"renamed VM":                                    {found: with("web1", "vm-1", "t1"), hostname: "web1.example.com", hardware: "vm-1", disk: "t1"},
		"renamed, with a later token":                   {found: with("web1", "", "t1"), hostname: "web1.example.com", disk: "t2 t1"},
		"renamed, and its disk is read-only":            {found: with("web1", "vm-1", ""), hostname: "web1.example.com", hardware: "vm-1"},
		"renamed PXE host without a disk":               {found: with("web1", "vm-1", "t1"), hostname: "web1.example.com", hardware: "vm-1"},
		"renamed board":                                 {found: with("web1", "", "t1"), hostname: "web1.example.com", disk: "t1"},
		"renamed board without a disk":                  {found: with("web1", "", "t1"), hostname: "web1.example.com", apart: "name"},
		"board without a disk":                          {found: with("web1", "", "t1"), hostname: "web1"},
		"board with a root file system for each update": {found: with("web1", "", "t2"), hostname: "web1", disk: "t1"},
		"locked by an unprivileged user":                {found: with("web1", "", ""), hostname: "web1", hardware: "vm-1", disk: "t1"},

		"cloned image":                               {found: with("web1", "vm-1", "t1"), hostname: "web2", hardware: "vm-2", apart: "hardware and name"},
		"cloned image with a name in it":             {found: with("web1", "vm-1", "t1"), hostname: "web1", hardware: "vm-2", apart: "hardware"},
		"cloned image without a name":                {found: with("localhost", "vm-1", "t1"), hostname: "localhost", hardware: "vm-2", apart: "hardware"},
		"cloned disk of an earlier slot":             {found: with("web1", "vm-1", "t2"), hostname: "web2", hardware: "vm-2", disk: "t1", apart: "hardware and disk and name"},
		"disk that was copied while it had the slot": {found: with("web1", "vm-1", "t1"), hostname: "web2", hardware: "vm-2", disk: "t1", apart: "hardware and name"},
		"disk that was moved to another machine":     {found: with("web1", "vm-1", "t1"), hostname: "web1", hardware: "vm-2", disk: "t1"},
		"cloned boards":                              {found: with("web1", "", "t2"), hostname: "web2", disk: "t1", apart: "disk and name"},
		"clones whose firmware has the same example": {found: with("web1", "vm-1", "t2"), hostname: "web2", hardware: "vm-1", disk: "t1", apart: "disk and name"},
		"disk that was set back to a snapshot":       {found: with("web1", "vm-1", "t2"), hostname: "web1", hardware: "vm-1", disk: "t1"},
	} {
		t.Run(what, func(t *testing.T) {
			other := lock.Record{Hostname: test.hostname, BootID: "2", Hardware: test.hardware}
			if test.sameBoot {
				other.BootID = test.found.BootID
			}
			synctest.Test(t, func(t *testing.T) { testFoundSlot(t, test.found, other, strings.Fields(test.disk), test.apart) })
		})
	}
}

// testFoundSlot makes another host, with the machine id of the first, do all that a host does with its slot.
func testFoundSlot(t *testing.T, one, other lock.Record, disk []string, apart string) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // none of it waits
	defer cancel()
	wantAnswer := func(what string, err error) {
		t.Helper()
		var clone *lock.CloneError
		switch isClone := errors.As(err, &clone); {
		case isClone != (apart != ""):
			t.Errorf("%s returned %v", what, err)
		case isClone && (!strings.Contains(err.Error(), "this is "+other.Hostname+", but "+one.Hostname+" has the lock") ||
			!strings.Contains(err.Error(), "differ in "+apart+";") || !strings.Contains(err.Error(), "unlock x,")):
			t.Errorf("%s says %v", what, err)
		}
	}
	s := storetest.NewMemory()
	holder := enter(t, s, "other", lock.Record{})
	a := enter(t, s, "x", one)
	second := newLock(t, s, "")
	second.Identify(other, disk)
	if apart != "" { // both wait
		wantAnswer("acquire", second.Acquire(ctx, "x", other, nil))
	}
	holder.mustRelease(t)
	if !a.got(t) {
		t.Fatal("the first one has no slot")
	}
	_, err := second.TryAcquire(ctx, "x", other)
	wantAnswer("lock", err)
	wantAnswer("acquire", second.Acquire(ctx, "x", other, nil))
	_, _, err = second.Holder(ctx, "x")
	wantAnswer("holder", err)
	wantAnswer("release", second.Release(ctx, "x"))
	if held := slices.Contains(holdersIn(t, s), "x"); held != (apart != "") {
		t.Errorf("held is %v", held)
	}
	if apart != "" { // the way out for operators
		must.Do(t, newLock(t, s, "").Release(ctx, "x"))
	}
	wantNothingLeft(t, s)
}
