package main

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/locksmithd/locksmith/fleetlock"
	"github.com/locksmithd/locksmith/test/fleetlocktest"
	"github.com/locksmithd/locksmith/test/must"
)

// The commands about a FleetLock server:
//
//	fleetlock          start one with a slot, and set REBOOT_STRATEGY and LOCKSMITHD_FLEETLOCK_URL for it
//	permits WHAT...    change it, see permitsCmd
//	permitted ID...    these hosts have a slot
//	asked OPERATION... these requests have come since the last time this command ran, such as pre-reboot
//	permit-waits       wait until a request for a slot has come since the last time that asked ran
var fleetLockCommands = commands{
	"fleetlock":    fleetLockCmd,
	"permits":      permitsCmd,
	"permitted":    permittedCmd,
	"asked":        askedCmd,
	"permit-waits": permitWaitsCmd,
}

func fleetLockCmd(s *stage, ts *testscript.TestScript, _ []string) {
	s.permits = fleetlocktest.New(1)
	ts.Setenv("LOCKSMITHD_FLEETLOCK_URL", s.permits.Start(s))
	ts.Setenv("REBOOT_STRATEGY", "fleet-lock")
}

// permitsCmd makes the server do one of these:
//
//	take ID            give a slot to a host, whether one is free or not
//	free ID            take its slot away
//	refuse [VALUE]     refuse slots with this text, or not any more
//	hold TIME          let requests wait for so long
//	answer CODE TYPE BODY  answer this to everything
//	answer             answer as the protocol says
func permitsCmd(s *stage, ts *testscript.TestScript, args []string) {
	what, args := args[0], args[1:]
	switch {
	case what == "take":
		s.permits.Take(args[0])
	case what == "free":
		s.permits.Free(args[0])
	case what == "refuse" && len(args) == 0:
		s.permits.Refuse(nil)
	case what == "refuse":
		s.permits.Refuse(&fleetlock.Error{Kind: fleetlock.KindPaused, Value: args[0]})
	case what == "hold":
		d, err := time.ParseDuration(args[0])
		ts.Check(err)
		s.permits.Hold(d)
	case what == "answer" && len(args) == 0:
		s.permits.Break(nil)
	case what == "answer":
		code, err := strconv.Atoi(args[0])
		ts.Check(err)
		s.permits.Break(fleetlocktest.Raw(code, args[1], args[2]))
	default:
		ts.Fatalf("the FleetLock server cannot %s", what)
	}
}

func permittedCmd(s *stage, ts *testscript.TestScript, want []string) {
	if got := s.permits.Holders(); !slices.Equal(got, want) {
		ts.Fatalf("%q have a slot, want %q", got, want)
	}
}

func askedCmd(s *stage, ts *testscript.TestScript, want []string) {
	var got []string
	for _, call := range s.permits.Calls() {
		operation, _, _ := strings.Cut(call, " ")
		got = append(got, operation)
	}
	if !slices.Equal(got, want) {
		ts.Fatalf("it was asked %q, want %q", got, want)
	}
}

func permitWaitsCmd(s *stage, _ *testscript.TestScript, _ []string) {
	must.Await(s, patience, "a request for a slot", func() (<-chan struct{}, bool) {
		changed := s.permits.Changed()
		return changed, slices.ContainsFunc(s.permits.Calls(), func(call string) bool { return strings.HasPrefix(call, "pre-reboot") })
	})
}
