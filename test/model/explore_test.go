package model

import (
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
)

// A Result is the result of a search.
type Result struct {
	States int // canonical states that are reachable
	Steps  int // between them
	Depth  int // of the longest shortest history
	Cycles int // sets of states in which the program can go round without a fault: see Explore

	// Bad is the property that does not hold, or "", and Trace is a shortest history that shows it, two lines a
	// step.
	Bad   string
	Trace []string
}

// Explore goes through all histories of a configuration, shortest first, up to limit states.
//
// It checks in every state that no host acts on a slot that it does not have, and in every step what the step
// itself must not do. Then it checks that the program always comes to a good end: from every state, once faults
// and interference stop, the final states (the strongly connected components that no step leads out of) are single
// states in which no host holds a slot, and no host waits except for the end of a pause or for max to be raised.
// If Cycles is 0, the program comes to that end in any order of steps; otherwise only if no step that stays
// possible is delayed forever.
func Explore(c Config, limit int) (*Result, error) {
	e := &explorer{model: newModel(c), seed: maphash.MakeSeed(), table: make([]uint32, 1<<16)}
	first := e.model.initial()
	e.add(e.model.canonical(&first), 0)
	r := &Result{}
	e.from = append(e.from, 0)
	level := 0
	for i := 0; i < e.len(); i++ {
		if i == level {
			r.Depth++
			level = e.len()
		}
		if e.len() > limit {
			return nil, fmt.Errorf("%s has more than %d states", c.Name, limit)
		}
		s := *e.state(uint32(i))
		e.model.steps(&s, func(st step, next state, bad string) {
			if r.Bad != "" {
				return
			}
			r.Steps++
			if bad == "" {
				bad = e.model.broken(&next)
			}
			canonical := e.model.canonical(&next)
			n := e.add(canonical, uint32(i))
			if !e.model.fault(&s, st) {
				e.to = append(e.to, n)
			}
			if bad != "" {
				var last state
				r.Trace, last = e.trace(uint32(i), &canonical)
				if r.Bad = e.model.broken(&last); r.Bad == "" {
					r.Bad = bad // of the step; it names no host
				}
			}
		})
		if r.Bad != "" {
			r.States = e.len()
			return r, nil
		}
		e.from = append(e.from, uint32(len(e.to)))
	}
	r.States = e.len()
	r.Depth--
	if stuck := e.ends(r); stuck >= 0 {
		var last state
		r.Trace, last = e.trace(uint32(stuck), nil)
		if r.Bad = e.model.end(&last); r.Bad == "" {
			r.Bad = "the program loops forever"
		}
	}
	return r, nil
}

// broken returns the property that does not hold in a state, or "".
func (m *model) broken(s *state) string {
	for i := range s.hosts {
		h := &s.hosts[i]
		if !h.believes() || h.removed {
			continue
		}
		if !has(s.holders, m.IDs[i]) {
			return "host " + hostNames[i] + " acts on a slot that it does not have"
		}
		for j := range i {
			if o := &s.hosts[j]; m.IDs[i] == m.IDs[j] && o.believes() && !o.removed {
				return "two hosts act on one slot"
			}
		}
	}
	if s.oldHolds && !has(s.holders, oldID) {
		return "the old client lost its slot"
	}
	return ""
}

// end returns what is wrong with a final state, or "".
func (m *model) end(s *state) string {
	holders := s.holders
	for i := range s.hosts {
		if m.TTL && s.hosts[i].pc == dead {
			holders &^= 1 << m.IDs[i] // the next host that waits removes it
		}
		if m.NoFix && s.hosts[i].pc == sick {
			holders &^= 1 << m.IDs[i]
		}
	}
	if holders != 0 {
		return "a slot stays held by " + m.set(s.holders) + " forever"
	}
	for i := range s.hosts {
		h := &s.hosts[i]
		waits := h.pc == follow || h.pc == head || h.pc == refused
		switch {
		case h.pc == dead, h.pc == idle && h.mode != ready:
		case waits && (s.paused || s.max == 0):
		case m.NoFix && (h.pc == sick || waits && !s.free() || h.pc == outside && s.unwell != 0):
		default:
			return "host " + hostNames[i] + " never gets its turn"
		}
	}
	return ""
}

const chunk = 1 << 14

type explorer struct {
	model  *model
	seed   maphash.Seed
	chunks [][]state // of all states, so that growth copies none
	parent []uint32
	table  []uint32 // open addressing: the index of a state, plus one

	// The steps without faults of state i lead to to[from[i]:from[i+1]].
	from, to []uint32
}

func (e *explorer) len() int { return len(e.parent) }

func (e *explorer) state(n uint32) *state { return &e.chunks[n/chunk][n%chunk] }

// add returns the index of a canonical state, which it adds if necessary.
func (e *explorer) add(s state, parent uint32) uint32 {
	if 2*e.len() >= len(e.table) {
		old := e.table
		e.table = make([]uint32, 2*len(old))
		for _, n := range old {
			if n != 0 {
				*e.slot(e.state(n - 1)) = n
			}
		}
	}
	slot := e.slot(&s)
	if *slot == 0 {
		if e.len()%chunk == 0 {
			e.chunks = append(e.chunks, make([]state, chunk))
		}
		*e.state(uint32(e.len())) = s
		e.parent = append(e.parent, parent)
		*slot = uint32(e.len())
	}
	return *slot - 1
}

func (e *explorer) slot(s *state) *uint32 {
	mask := uint64(len(e.table) - 1)
	for i := maphash.Comparable(e.seed, *s) & mask; ; i = (i + 1) & mask {
		if n := e.table[i]; n == 0 || *e.state(n - 1) == *s {
			return &e.table[i]
		}
	}
}

// trace returns a history that leads to a state, and from there to a state like last, if that is given. It replays
// the history from the beginning, so that names keep their meaning, and also returns its last state.
func (e *explorer) trace(n uint32, last *state) ([]string, state) {
	var path []state
	if last != nil {
		path = append(path, *last)
	}
	for ; n != 0; n = e.parent[n] {
		path = append(path, *e.state(n))
	}
	s := e.model.initial()
	lines := []string{"    " + e.model.describe(&s)}
	for i := len(path) - 1; i >= 0; i-- {
		found := false
		e.model.steps(&s, func(st step, next state, _ string) {
			if found || e.model.canonical(&next) != path[i] {
				return
			}
			found = true
			lines = append(lines, fmt.Sprintf("%2d. %s", len(path)-i, e.model.label(st, &s)), "    "+e.model.describe(&next))
			path[i] = next
		})
		s = path[i]
	}
	return lines, s
}

// ends finds all sets of states that the program does not leave by itself, counts those that it can go round in,
// and returns the first state from which there is no good end, or -1.
func (e *explorer) ends(r *Result) int {
	const unseen = 0
	n := e.len()
	num := make([]uint32, n) // Tarjan's numbers, from 1
	low := make([]uint32, n)
	next := make([]uint32, n) // the edge to look at
	comp := make([]bool, n)   // already part of a component
	var stack, call []uint32
	counter := uint32(0)
	worst := -1
	for root := range n {
		if num[root] != unseen {
			continue
		}
		call = append(call[:0], uint32(root))
		for len(call) > 0 {
			v := call[len(call)-1]
			if num[v] == unseen {
				counter++
				num[v], low[v] = counter, counter
				next[v] = e.from[v]
				stack = append(stack, v)
			}
			if next[v] < e.from[v+1] {
				w := e.to[next[v]]
				next[v]++
				switch {
				case num[w] == unseen:
					call = append(call, w)
				case !comp[w]:
					low[v] = min(low[v], num[w])
				}
				continue
			}
			call = call[:len(call)-1]
			if len(call) > 0 {
				u := call[len(call)-1]
				low[u] = min(low[u], low[v])
			}
			if low[v] != num[v] {
				continue
			}
			// v is the root of a component: all that is on the stack above it.
			at := len(stack) - 1
			for stack[at] != v {
				at--
			}
			members := stack[at:]
			for _, w := range members {
				comp[w] = true
			}
			e.component(r, members, &worst)
			stack = stack[:at]
		}
	}
	return worst
}

// component checks one strongly connected component.
func (e *explorer) component(r *Result, members []uint32, worst *int) {
	leaves, round := false, false
	first := slices.Min(members)
	for _, n := range members {
		for _, to := range e.to[e.from[n]:e.from[n+1]] {
			if slices.Contains(members, to) {
				round = true
			} else {
				leaves = true
			}
		}
	}
	if round {
		r.Cycles++
	}
	bad := round || e.model.end(e.state(first)) != ""
	if !leaves && bad && (*worst < 0 || int(first) < *worst) {
		*worst = int(first)
	}
}

// String returns the result in one line, or the history that breaks a property.
func (r *Result) String() string {
	line := fmt.Sprintf("%d states, %d steps, depth %d, %d cycles", r.States, r.Steps, r.Depth, r.Cycles)
	if r.Bad == "" {
		return line
	}
	return fmt.Sprintf("%s, after %d steps (%s)\n%s", r.Bad, len(r.Trace)/2, line, strings.Join(r.Trace, "\n"))
}
