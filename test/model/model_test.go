package model

import (
	"os"
	"strings"
	"testing"
)

var (
	distinct = [nHosts]uint8{0, 1, 2}
	cloned   = [nHosts]uint8{0, 1, 0}

	twoBad = [nHosts]bool{true, true, false}
	allBad = [nHosts]bool{true, true, true}
)

// states bounds memory, at about 300 bytes each.
const states = 5_000_000

// worlds are small enough for every run.
var worlds = []Config{
	{Name: "no fault", Max: 1},
	{Name: "no fault, max 2", Max: 2},
	{Name: "lost replies", Max: 1, Budget: Budget{Lost: 2}},
	{Name: "lost replies, max 2", Max: 2, Budget: Budget{Lost: 2}},
	{Name: "killed daemons", Max: 1, Budget: Budget{Lost: 1, Kills: 1, Leaves: 1}},
	{Name: "crashes", Max: 1, Budget: Budget{Lost: 1, Crashes: 1}},
	{Name: "crashes, max 2", Max: 2, Budget: Budget{Lost: 1, Crashes: 1}},
	{Name: "hangs", Max: 1, Budget: Budget{Lost: 1, Leases: 1, OldTakes: 1}},
	{Name: "pause", Max: 1, Budget: Budget{Lost: 1, Pauses: 1, SetMax: 1}},
	{Name: "pause, max 2", Max: 2, Budget: Budget{Lost: 1, Kills: 1, Pauses: 1}},
	{Name: "administrator", Max: 1, Budget: Budget{Lost: 1, Unlocks: 1, Locks: 1}},
	{Name: "old client", Max: 1, Budget: Budget{Lost: 1, OldTakes: 1, OldUnlock: 1, OldLock: 1}},
	{Name: "old tool locks", Max: 1, Budget: Budget{Lost: 1, Kills: 1, OldLock: 1}},
	{Name: "old tool locks, pause", Max: 1, Budget: Budget{Lost: 1, Pauses: 1, OldLock: 1}},
	{Name: "everybody queues", Max: 1, Queue: true, Budget: Budget{Lost: 1, Leaves: 1}},
	{Name: "time-to-live", Max: 1, TTL: true, Budget: Budget{Lost: 1, Leaves: 1}},
	{Name: "time-to-live, by hand", Max: 1, TTL: true, Budget: Budget{Unlocks: 1, Locks: 1, OldTakes: 1}},
	{Name: "time-to-live, max 2", Max: 2, TTL: true, Budget: Budget{Lost: 1, OldTakes: 1}},
	{Name: "time-to-live, dead hosts", Max: 1, TTL: true, Dead: true, Budget: Budget{Lost: 1, Crashes: 2}},
	{Name: "cloned id", Max: 1, IDs: cloned, Budget: Budget{Lost: 1, Unlocks: 1}},
	{Name: "cloned id, max 2", Max: 2, IDs: cloned, Budget: Budget{Crashes: 1, Leaves: 1}},
	{Name: "renamed", Max: 1, Budget: Budget{Crashes: 1, Renames: 2}},
	{Name: "renamed, cloned id", Max: 1, IDs: cloned, Budget: Budget{Renames: 2, Copies: 1}},
	{Name: "renamed, cloned id, crashes", Hosts: 2, Max: 2, IDs: [nHosts]uint8{0, 0, 1}, Budget: Budget{Lost: 1, Crashes: 1, Renames: 1, Copies: 1}},
	{Name: "renamed, cloned id without a disk", Max: 1, IDs: cloned, NoDisk: true, Budget: Budget{Crashes: 1, Renames: 1}},
	{Name: "renamed, cloned id without known hardware", Max: 1, IDs: cloned, NoHardware: true, Budget: Budget{Crashes: 1, Renames: 1}},
	{Name: "cloned id without a name", Max: 1, IDs: cloned, NoName: true, Budget: Budget{Crashes: 1}},
	{Name: "bad version", Max: 1, Bad: twoBad, Budget: Budget{Lost: 1}},
	{Name: "bad version, max 2", Max: 2, Bad: twoBad, Budget: Budget{Lost: 1}},
	{Name: "bad version for all", Max: 2, Bad: allBad, Budget: Budget{Resumes: 1}},
	{Name: "bad version, killed daemons", Max: 1, Bad: twoBad, Budget: Budget{Kills: 1, Resumes: 1}},
	{Name: "bad version, crashes", Max: 1, Bad: twoBad, Budget: Budget{Crashes: 1, Resumes: 1}},
	{Name: "bad version, recovered", Max: 1, Bad: twoBad, Budget: Budget{Recovers: 1, Unlocks: 1}},
	{Name: "bad version, time-to-live", Max: 1, TTL: true, Bad: twoBad, Budget: Budget{Resumes: 1}},
	{Name: "bad version without a fix", Max: 2, Bad: twoBad, NoFix: true, Budget: Budget{Lost: 1, Resumes: 1}},
}

// largeWorlds take minutes.
var largeWorlds = []Config{
	{Name: "three lost replies", Max: 1, Budget: Budget{Lost: 3, OldTakes: 1}},
	{Name: "killed daemons, two lost replies", Max: 1, Budget: Budget{Lost: 2, Kills: 1, Leaves: 1}},
	{Name: "killed daemons twice", Max: 2, Budget: Budget{Lost: 1, Kills: 2, Pauses: 1}},
	{Name: "crashes twice", Max: 1, Budget: Budget{Lost: 1, Crashes: 2, Leases: 1}},
	{Name: "pause, two lost replies, max 2", Max: 2, Budget: Budget{Lost: 2, Kills: 1, Pauses: 1}},
	{Name: "hangs, pause and leaving", Max: 1, Budget: Budget{Lost: 1, Leases: 1, Leaves: 1, Pauses: 1}},
	{Name: "administrator, all at once", Max: 1, Budget: Budget{Lost: 1, Pauses: 1, SetMax: 2, Unlocks: 1, OldTakes: 1}},
	{Name: "old tool locks, all at once", Max: 1, Budget: Budget{Lost: 1, Leases: 1, Leaves: 1, OldTakes: 1, OldLock: 1}},
	{Name: "old tool locks, max 2", Max: 2, Budget: Budget{Lost: 1, Kills: 1, Pauses: 1, OldLock: 1}},
	{Name: "everybody queues, all at once", Max: 1, Queue: true, Budget: Budget{Lost: 2, Kills: 1, Leaves: 1, Pauses: 1}},
	{Name: "two hosts, all at once", Hosts: 2, Max: 1,
		Budget: Budget{Lost: 1, Crashes: 1, Leases: 1, Leaves: 1, Pauses: 1, Unlocks: 1}},
	{Name: "time-to-live, crashes", Max: 1, TTL: true, Budget: Budget{Lost: 1, Kills: 1, Crashes: 1}},
	{Name: "time-to-live, administrator", Max: 1, TTL: true, Budget: Budget{Lost: 1, Leaves: 1, Unlocks: 1, Locks: 1}},
	{Name: "time-to-live, old tool locks", Max: 1, TTL: true, Budget: Budget{Lost: 1, Leaves: 1, OldLock: 1}},
	{Name: "time-to-live, dead hosts, max 2", Max: 2, TTL: true, Dead: true, Budget: Budget{Lost: 2, Crashes: 2, Pauses: 1}},
	{Name: "cloned id, crashes", Max: 1, IDs: cloned, Budget: Budget{Lost: 1, Crashes: 1, Unlocks: 1}},
	{Name: "bad version, lost replies and killed daemons", Max: 2, Bad: twoBad, Budget: Budget{Lost: 1, Kills: 1}},
	{Name: "bad version, leaving", Max: 2, Bad: twoBad, Budget: Budget{Leaves: 1, Lost: 1}},
	{Name: "bad version, time-to-live, lost replies", Max: 1, TTL: true, Bad: twoBad, Budget: Budget{Lost: 1}},
	{Name: "bad version, administrator", Max: 2, Bad: twoBad, Budget: Budget{Locks: 1, Pauses: 1, Resumes: 1}},
	{Name: "bad version, old client", Max: 2, Bad: twoBad, Budget: Budget{OldTakes: 1, OldLock: 1}},
	{Name: "cloned id, crashes, max 2", Max: 2, IDs: cloned, Budget: Budget{Lost: 1, Crashes: 1, Kills: 1, Leaves: 1}},
}

func explore(t *testing.T, c Config) *Result {
	t.Helper()
	if c.Hosts == 0 {
		c.Hosts = nHosts
	}
	if c.IDs == [nHosts]uint8{} {
		c.IDs = distinct
	}
	r, err := Explore(c, states)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestProtocolIsSafeAndComesToAGoodEnd(t *testing.T) {
	all := worlds
	switch size := os.Getenv("LOCKSMITH_MODEL"); size {
	case "":
	case "large":
		all = append(append([]Config{}, worlds...), largeWorlds...)
	default:
		t.Fatalf("LOCKSMITH_MODEL is %q; it must be large or not set", size)
	}
	for _, c := range all {
		t.Run(c.Name, func(t *testing.T) {
			r := explore(t, c)
			t.Log(r)
			if r.Bad != "" {
				t.Error("the protocol does not hold")
			}
			if r.Cycles != 0 {
				t.Errorf("the program can go round in %d ways without a fault", r.Cycles)
			}
		})
	}
}

// TestDeliberateBugsAreFound shows that the search finds each of these mistakes, with a shortest history.
func TestDeliberateBugsAreFound(t *testing.T) {
	for _, test := range []struct {
		name   string
		bug    Bug
		in     Config
		breaks string
		steps  int
	}{
		{"taking a slot does not compare the revision", TakeNoRevision, Config{Max: 1},
			"acts on a slot that it does not have", 4},
		{"a time-out is taken as a no", TimeoutIsNo, Config{Max: 1, Budget: Budget{Lost: 1, Leaves: 1}},
			"a slot stays held", 9},
		{"a write is retried blindly", RetryBlindly, Config{Max: 1, Budget: Budget{Lost: 1}},
			"acts on a slot that it does not have", 5},
		{"a queue entry has no lease", EnqueueNoLease, Config{Max: 1, Budget: Budget{Leaves: 1}},
			"never gets its turn", 14},
		{"the head does not compare its own entry", TakeNoOwnEntry, Config{Max: 1, Budget: Budget{Leases: 1, OldTakes: 1}},
			"overtaken", 9},
		{"taking a slot does not compare the pause", TakeNoPause, Config{Max: 1, Budget: Budget{Pauses: 1}},
			"during a pause", 3},
		{"the fast path does not compare the queue", FastNoQueue, Config{Max: 1, Budget: Budget{OldTakes: 1}},
			"overtaken", 6},
		{"release does not fence", ReleaseNoFence, Config{Max: 1, Budget: Budget{Lost: 1, Leaves: 1}},
			"a slot stays held", 10},
		{"a conflict is taken for an answer about an earlier take", ConflictIsNo,
			Config{Max: 1, Budget: Budget{Lost: 1, Leaves: 1}}, "a slot stays held", 12},
		{"adoption does not fence", AdoptNoFence, Config{Max: 1, Budget: Budget{Kills: 1, Leaves: 1}},
			"acts on a slot that it does not have", 9},
		{"a start forgets what may be under way", StartForgets, Config{Max: 1, Budget: Budget{Kills: 1, Leaves: 1}},
			"acts on a slot that it does not have", 9},
		{"removing a holder compares only the semaphore", ExpireOnlySemaphore,
			Config{Max: 1, TTL: true, Budget: Budget{Unlocks: 1, Locks: 1}},
			"a holder was removed although its time-to-live had not run out", 9},
		{"removing a holder does not compare the semaphore", ExpireNoRevision,
			Config{Max: 2, TTL: true, Budget: Budget{OldTakes: 1}},
			"the old client lost its slot", 16},
		{"acquire does not check for clones", AcquireNoCloneCheck, Config{Max: 2, IDs: cloned},
			"two hosts act on one slot", 3},
		{"start and release do not check for clones", ReleaseNoCloneCheck, Config{Max: 1, IDs: cloned, Budget: Budget{Crashes: 1}},
			"acts on a slot that it does not have", 6},
		{"the check before the reboot does not check for clones", CheckNoCloneCheck, Config{Max: 1, IDs: cloned, Budget: Budget{Unlocks: 1}},
			"although its slot was taken away", 6},
		{"a renamed host is taken for another host", KnownByName, Config{Max: 1, Budget: Budget{Renames: 1}},
			"a slot stays held", 14},
		{"a copied disk is taken for the host", KnownByDisk, Config{Max: 2, IDs: cloned, Budget: Budget{Copies: 1}},
			"two hosts act on one slot", 5},
		{"there is no check before the reboot", NoCheck, Config{Max: 1, Budget: Budget{Unlocks: 1}},
			"although its slot was taken away", 4},
		{"the next in the queue takes itself for the head", FollowIsHead, Config{Max: 1, Budget: Budget{Leases: 1, OldTakes: 1}},
			"overtaken", 11},
		{"a host in the queue does not watch its own entry", FollowNotSelf, Config{Max: 1, Budget: Budget{Locks: 1}},
			"a slot stays held", 15},
		{"the head leaves the entries of holders alone", HeadUnqueuesNone, Config{Max: 1, Budget: Budget{OldLock: 1}},
			"a slot stays held", 15},
		{"the head does not watch the pause", HeadNoResume, Config{Max: 1, Budget: Budget{Pauses: 1}},
			"never gets its turn", 11},
		{"the head does not watch the semaphore", HeadNoSemaphore, Config{Max: 1},
			"never gets its turn", 14},
		{"taking a slot does not look for unwell hosts", TakeNoUnwell, Config{Max: 2, Bad: twoBad},
			"for a version that is paused", 10},
		{"a report does not write the document", ReportNoSemaphore, Config{Max: 2, Bad: allBad, Budget: Budget{Resumes: 1, Unlocks: 1}},
			"for a version that is paused", 20},
		{"the head does not compare that nobody is unwell", HeadNoUnwell, Config{Max: 2, Bad: twoBad, Budget: Budget{OldTakes: 1}},
			"for a version that is paused", 15},
		{"the head trusts an event though somebody was unwell before", HeadBlind, Config{Max: 2, Bad: allBad, Budget: Budget{Resumes: 1, OldTakes: 1}},
			"for a version that is paused", 30},
		{"a host whose version is paused stays in the queue", QueuePaused, Config{Max: 2, Bad: twoBad, NoFix: true},
			"never gets its turn", 14},
		{"a host outside the queue does not watch", OutsideDeaf, Config{Max: 2, Bad: twoBad, NoFix: true, Budget: Budget{Resumes: 1}},
			"never gets its turn", 18},
		{"a report keeps the time-to-live", ReportKeepsTTL, Config{Max: 1, TTL: true, Bad: twoBad},
			"was robbed of its slot", 13},
		{"an unwell host gives its slot back", UnwellGivesBack, Config{Max: 1, Bad: twoBad},
			"is unwell has given its slot back", 8},
		{"a host that is well with the fix ends the pause", FixEndsPause, Config{Max: 1, Bad: twoBad},
			"for a version that is paused", 18},
	} {
		t.Run(test.name, func(t *testing.T) {
			if r := explore(t, test.in); r.Bad != "" {
				t.Fatalf("the property is broken without the bug: %v", r)
			}
			test.in.Bug = test.bug
			r := explore(t, test.in)
			t.Log(r)
			if r.Bad == "" || !strings.Contains(r.Bad, test.breaks) || len(r.Trace)/2 != test.steps {
				t.Errorf("want %q after %d steps", test.breaks, test.steps)
			}
		})
	}
}

// TestRenamingHostsChangesNothing shows that counting states that differ only in names once hides nothing: without
// that there are more states and the same answers.
func TestRenamingHostsChangesNothing(t *testing.T) {
	for _, c := range []Config{
		{Max: 1, Budget: Budget{Lost: 1, Kills: 1}},
		{Max: 2, TTL: true, Budget: Budget{Crashes: 1}},
		{Max: 1, IDs: cloned, Budget: Budget{Lost: 1}},
		{Max: 1, Budget: Budget{OldLock: 1}},
		{Max: 1, IDs: cloned, Budget: Budget{Copies: 1, Renames: 1}},
		{Max: 2, Bad: twoBad, Budget: Budget{Resumes: 1}},
		{Max: 1, Bug: EnqueueNoLease, Budget: Budget{Leaves: 1}},
		{Max: 1, Bug: TakeNoOwnEntry, Budget: Budget{Leases: 1, OldTakes: 1}},
		{Max: 1, Bug: ReleaseNoCloneCheck, IDs: cloned, Budget: Budget{Crashes: 1}},
	} {
		with := explore(t, c)
		c.named = true
		without := explore(t, c)
		// The first of several shortest histories may differ, and with it the name in the property.
		if (with.Bad == "") != (without.Bad == "") || len(with.Trace) != len(without.Trace) || with.Cycles != without.Cycles {
			t.Errorf("%+v:\n%v\n%v", c, with, without)
		}
		if with.Bad == "" && (without.States <= with.States || without.States > 6*with.States || with.Depth != without.Depth) {
			t.Errorf("%+v: %v; without renaming: %v", c, with, without)
		}
	}
}

// TestHarmlessOmissions lists what the protocol does beyond its need to be safe and to come to an end. The package
// comment says what each is good for.
func TestHarmlessOmissions(t *testing.T) {
	for _, test := range []struct {
		name string
		bug  Bug
	}{
		{"taking over compares nothing", TakeoverNoRevision},
		{"removing a holder does not compare its record", ExpireNoRecord},
		{"removing a holder does not compare its alive key", ExpireNoAlive},
		{"the head does not watch its own entry", HeadNotSelf},
		{"deleting the entry of a holder does not compare it", UnqueueNoRevision},
		{"leaving does not revoke the lease", LeaveKeepsEntry},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, c := range []Config{
				{Max: 1, Budget: Budget{Lost: 1, Leases: 1, OldTakes: 1}},
				{Max: 1, Budget: Budget{Kills: 1, Leaves: 1, Pauses: 1}},
				{Max: 1, TTL: true, Budget: Budget{Unlocks: 1, Locks: 1, OldTakes: 1}},
				{Max: 1, Budget: Budget{Lost: 1, OldLock: 1}},
			} {
				c.Bug = test.bug
				if r := explore(t, c); r.Bad != "" || r.Cycles > 0 {
					t.Error(r)
				}
			}
		})
	}
}

// TestKnownLimits lists what the protocol cannot do, so that an improvement is noticed.
func TestKnownLimits(t *testing.T) {
	for _, test := range []struct {
		name   string
		in     Config
		breaks string
	}{
		{"hosts with one id and without names cannot be told apart", Config{Max: 2, IDs: cloned, NoHardware: true, NoDisk: true, NoName: true},
			"two hosts act on one slot"},
		{"a host known only by its name, renamed by its reboot", Config{Max: 1, NoHardware: true, NoDisk: true, Budget: Budget{Renames: 1}},
			"a slot stays held"},
		{"a disk copied while its host held a slot, with unknown hardware", Config{Max: 2, IDs: cloned, NoHardware: true, Budget: Budget{Copies: 1}},
			"two hosts act on one slot"},
		{"a host that comes up with another name, and without the disk of its slot",
			Config{Hosts: 2, Max: 2, IDs: [nHosts]uint8{0, 0, 1}, Replaced: true, Budget: Budget{Crashes: 1, Renames: 1, Copies: 1}}, "a slot stays held"},
		{"a record left over by an old tool counts for an old tool's lock", Config{Max: 1, TTL: true, Budget: Budget{OldUnlock: 1, OldLock: 1}},
			"its time-to-live had not run out"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := explore(t, test.in)
			t.Log(r)
			if !strings.Contains(r.Bad, test.breaks) {
				t.Errorf("want %q", test.breaks)
			}
		})
	}
}
