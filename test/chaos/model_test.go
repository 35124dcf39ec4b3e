package chaos

import (
	"fmt"
	"math/bits"
	"strings"

	"github.com/anishathalye/porcupine"
)

// state is the state of one group in the model.
type state struct {
	max     int
	holders uint64 // a bit for each client
	pause   int    // which pause of the group is in force, 0 for none
	all     int    // the same of all groups
	hosts   [maxClients]about
}

func (s state) holds(id int) bool { return s.holders&(1<<id) != 0 }
func (s state) full() bool        { return bits.OnesCount64(s.holders) >= s.max }
func (s state) paused() bool      { return s.pause != 0 || s.all != 0 }

// with is the state with another holder, whose record a client that knows only the document does not write.
func (s state) with(in input) state {
	s.holders |= 1 << in.id
	switch {
	case in.kind == preReboot:
		s.hosts[in.id].record = record{remote: true}
	case !in.old:
		s.hosts[in.id].record = record{version: in.version, boot: in.boot}
	}
	return s
}

func (s state) without(id int) state {
	s.holders &^= 1 << id
	s.hosts[id].record = record{}
	return s
}

// document is the part of a state that a client is shown.
type document struct {
	max     int
	holders uint64
}

func (s state) shows(d *document) bool {
	return d == nil || s.max == d.max && s.holders == d.holders
}

type kind string

const (
	begin       kind = "begin"   // of a window, in a known state
	acquire     kind = "acquire" // at once or not at all
	queue       kind = "queue"   // wait for a slot
	release     kind = "release"
	releaseWell kind = "release-well" // the host is well
	report      kind = "report"
	setMax      kind = "set-max"
	pause       kind = "pause"
	resume      kind = "resume"
	pauseAll    kind = "pause-all"
	resumeAll   kind = "resume-all"
	resumeFor   kind = "resume-versions" // the part of resume that is about unwell hosts
	lapse       kind = "lapse"           // the end of a pause by itself
	lapseAll    kind = "lapse-all"
	status      kind = "status"
	overview    kind = "overview"
	holder      kind = "holder"
	preReboot   kind = "pre-reboot"   // by FleetLock
	steadyState kind = "steady-state" // the same
	foreign     kind = "steady-state of a host that asks for itself"
)

// reads reports whether the operation never changes anything.
func (k kind) reads() bool { return k == status || k == overview || k == holder || k == foreign }

// pauses reports whether the operation is about a pause; the Lock remembers nothing of one.
func (k kind) pauses() bool {
	switch k {
	case pause, resume, pauseAll, resumeAll, resumeFor, lapse, lapseAll:
		return true
	}
	return false
}

// everywhere reports whether the operation applies to every group.
func (k kind) everywhere() bool { return k == pauseAll || k == resumeAll || k == lapseAll }

type input struct {
	group int
	kind  kind
	id    int  // of the slot
	n     int  // the number of slots, or which pause
	old   bool // by a client that knows only the document
	from  state

	version uint8  // of a slot that is taken
	boot    uint16 // of the host that acts
	report  told
	hosts   uint64 // that are resumed
}

type result string

const (
	done    result = "ok"
	already result = "already"
	full    result = "full"
	paused  result = "paused"
	waits   result = "version paused"
	refused result = "refused" // by a FleetLock server
	notHeld result = "not held"
	nothing result = "nothing" // no pause was in force
	unknown result = "unknown"
	failed  result = "failed" // with an error that means that nothing happened
)

type output struct {
	result result
	seen   *document // in the answer
	paused bool      // in an overview
	hosts  *[maxClients]about
	held   bool // in an answer about a holder
	// undecided means that a transaction of this operation, or of an earlier one by the same Lock, got no
	// answer. That transaction may have done already what the operation is for. For a FleetLock client it means that a
	// server may have worked on an earlier request as well.
	undecided bool
}

// step returns the possible states of the group after an operation that returned out: none if the operation cannot
// have returned that.
func step(s state, in input, out output) []state {
	var after state
	possible := true // to change s into after
	switch in.kind {
	case begin:
		return []state{in.from}
	case acquire, queue, preReboot:
		after = s.with(in)
		possible = !s.holds(in.id) && !s.full() && (in.old || !s.paused() && !s.pausedFor(in.version))
	case release, steadyState:
		after = s.without(in.id)
		possible = s.holds(in.id)
	case releaseWell:
		after = s.released(in)
		possible = s.holds(in.id)
	case report:
		after = s
		after.hosts[in.id] = s.hosts[in.id].reported(in.report, in.boot)
		possible = s.holds(in.id)
	case setMax:
		after = s
		after.max = in.n
	case pause:
		after = s
		after.pause = in.n
	case pauseAll:
		after = s
		after.all = in.n
	case resume:
		after = s
		after.pause = 0
	case resumeAll:
		after = s
		after.all = 0
	case resumeFor:
		after, possible = s.resumed(in.hosts)
	case lapse:
		after = s
		after.pause = 0
		possible = s.pause == in.n
	case lapseAll:
		after = s
		after.all = 0
		possible = s.all == in.n
	case status, overview, holder, foreign:
		after = s
	}

	fits := false // whether the answer is right without a change
	switch out.result {
	case unknown:
		if possible && after != s {
			return []state{s, after}
		}
		return []state{s}
	case done:
		switch in.kind {
		case setMax:
			possible = out.undecided || s.shows(out.seen)
		case status:
			possible = s.shows(out.seen)
		case overview:
			possible = s.shows(out.seen) && out.paused == s.paused() && *out.hosts == s.hosts
		case holder:
			possible = out.held == s.holds(in.id)
		case queue, preReboot:
			fits = s.holds(in.id)
		case steadyState:
			fits = !s.holds(in.id)
		case foreign:
			possible = !s.holds(in.id)
		case acquire:
			fits = out.undecided && s.holds(in.id)
		case release, releaseWell:
			fits = out.undecided && !s.holds(in.id)
		}
		if possible {
			return []state{after}
		}
	case already:
		fits = s.holds(in.id)
	case full:
		fits = !s.holds(in.id) && s.full() && (in.old || !s.paused() && !s.pausedFor(in.version)) && s.shows(out.seen)
	case paused:
		fits = !s.holds(in.id) && (s.paused() || in.kind == preReboot && s.pausedFor(in.version)) || in.kind == preReboot && out.undecided
	case refused:
		fits = !s.holds(in.id) || out.undecided
	case waits:
		fits = !s.holds(in.id) && !s.paused() && s.pausedFor(in.version)
	case notHeld:
		fits = !s.holds(in.id) && s.shows(out.seen)
	case nothing:
		fits = in.kind == resume && s.pause == 0 || in.kind == resumeAll && s.all == 0
	}
	if fits {
		return []state{s}
	}
	return nil
}

// model is step for the checker.
var model = (&porcupine.NondeterministicModel{
	Init: func() []any { return []any{state{}} },
	Step: func(s, in, out any) []any {
		var after []any
		for _, s := range step(s.(state), in.(input), out.(output)) {
			after = append(after, s)
		}
		return after
	},
	Hash: func(s any) uint64 {
		st := s.(state)
		hosts := uint64(0)
		for _, a := range st.hosts {
			hosts = hosts*31 + uint64(a.record.boot)<<2 + uint64(a.record.version) + uint64(a.unwell.boot)<<18 + uint64(a.unwell.version)<<16
		}
		return hosts ^ st.holders*0x9e3779b97f4a7c15 ^ uint64(st.max)<<48 ^ uint64(st.pause)<<24 ^ uint64(st.all)
	},
	DescribeOperation: func(in, out any) string { return describe(in.(input), out.(output)) },
}).ToModel()

func describe(in input, out output) string {
	s := string(in.kind)
	switch in.kind {
	case begin:
		return fmt.Sprintf("begin %+v", in.from)
	case acquire, queue:
		s += fmt.Sprintf(" %d for %q", in.id, versions[in.version])
	case release, releaseWell, holder, preReboot, steadyState, foreign:
		s += fmt.Sprintf(" %d", in.id)
	case report:
		s += fmt.Sprintf(" %d %v", in.id, in.report)
	case resumeFor:
		s += " " + members(in.hosts)
	case setMax, pause, pauseAll, lapse, lapseAll:
		s += fmt.Sprintf(" %d", in.n)
	}
	if in.old {
		s += " (old)"
	}
	s += " -> " + string(out.result)
	if out.undecided {
		s += "?"
	}
	if out.seen != nil {
		s += fmt.Sprintf(" max %d holders %s", out.seen.max, members(out.seen.holders))
	}
	switch in.kind {
	case overview:
		s += fmt.Sprintf(" paused %v", out.paused)
		if out.hosts != nil {
			s += describeHosts(*out.hosts)
		}
	case holder:
		s += fmt.Sprintf(" held %v", out.held)
	}
	return s
}

// members lists the ids of a set.
func members(set uint64) string {
	var ids []string
	for ; set != 0; set &= set - 1 {
		ids = append(ids, fmt.Sprint(bits.TrailingZeros64(set)))
	}
	return "[" + strings.Join(ids, " ") + "]"
}
