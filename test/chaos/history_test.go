package chaos

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

// op is one operation of one client. Its ret is 0 as long as it may still take effect.
type op struct {
	client    int
	in        input
	out       output
	call, ret int64 // nanoseconds since the history began
	carried   bool  // over from the window before
	err       error
}

func (o *op) String() string {
	s := fmt.Sprintf("%9.1f ms to %9.1f ms  client %3d  %s", float64(o.call)/1e6, float64(o.ret)/1e6, o.client, describe(o.in, o.out))
	if o.err != nil {
		s += ": " + o.err.Error()
	}
	return s
}

// history has the operations of the clients of all groups in one window. It is safe for concurrent use.
type history struct {
	start time.Time

	mu  sync.Mutex
	ops []*op
}

func newHistory() *history { return &history{start: time.Now()} }

func (h *history) now() int64 { return int64(time.Since(h.start)) }

// call begins an operation.
func (h *history) call(client int, in input) *op {
	o := &op{client: client, in: in, out: output{result: unknown}}
	h.mu.Lock()
	defer h.mu.Unlock()
	o.call = h.now()
	h.ops = append(h.ops, o)
	return o
}

// end records the answer of an operation. An operation of unknown outcome stays open.
func (h *history) end(o *op, out output, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	o.out, o.err = out, err
	if out.result != unknown {
		o.ret = h.now()
	}
}

// again adds n operations of unknown outcome like o, which began with it.
func (h *history) again(o *op, n int) (added []*op) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for range n {
		added = append(added, &op{client: o.client, in: o.in, out: output{result: unknown}, call: o.call})
	}
	h.ops = append(h.ops, added...)
	return added
}

// add adds an operation that began at a time. It has ended unless its outcome stays open.
func (h *history) add(client int, in input, out output, call int64, open bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	o := &op{client: client, in: in, out: out, call: call}
	if !open {
		o.ret = h.now()
	}
	h.ops = append(h.ops, o)
}

// drop removes an operation.
func (h *history) drop(o *op) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = slices.DeleteFunc(h.ops, func(other *op) bool { return other == o })
}

// fail makes an operation of unknown outcome one that has not happened.
func (h *history) fail(o *op) {
	h.mu.Lock()
	defer h.mu.Unlock()
	o.out.result = failed
}

// close ends operations of unknown outcome: from now on they have no effect.
func (h *history) close(ops []*op) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, o := range ops {
		o.ret = h.now()
	}
}

// cut ends the window and returns its operations. The next window begins in the given states of the groups.
func (h *history) cut(next []state) []*op {
	h.mu.Lock()
	defer h.mu.Unlock()
	window, now := h.ops, h.now()
	h.ops = nil
	for g, s := range next {
		h.ops = append(h.ops, &op{in: input{group: g, kind: begin, from: s}, out: output{result: done}, call: now, ret: now})
	}
	for _, o := range window {
		if o.ret != 0 {
			continue
		}
		o.ret = now
		if !o.carried {
			h.ops = append(h.ops, &op{client: o.client, in: o.in, out: o.out, call: now + 1, carried: true})
		}
	}
	return window
}

// settle closes every open operation, except those about pauses.
func (h *history) settle() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, o := range h.ops {
		if o.ret == 0 && !o.in.kind.pauses() {
			o.ret = h.now()
		}
	}
}

// patience is how long the checker may take for one group of one window.
const patience = 30 * time.Second

// errUndecided means that the checker ran out of time.
var errUndecided = errors.New("the search for a linearization ran out of time")

// check looks for a linearization of each group in a window.
func check(window []*op, groups int) error {
	for g := range groups {
		var all []*op
		var ops []porcupine.Operation
		for _, o := range window {
			if o.in.group != g && !o.in.kind.everywhere() {
				continue
			}
			all = append(all, o)
			if o.out.result != failed && !(o.in.kind.reads() && o.out.result == unknown) {
				ops = append(ops, porcupine.Operation{ClientId: o.client, Input: o.in, Output: o.out, Call: o.call, Return: o.ret, Metadata: o})
			}
		}
		switch porcupine.CheckOperationsTimeout(model, ops, patience) {
		case porcupine.Illegal:
			_, info := porcupine.CheckOperationsVerbose(model, ops, patience)
			return fmt.Errorf("group %d is not linearizable: %s", g, stuck(all, info))
		case porcupine.Unknown:
			return fmt.Errorf("group %d: %w: %d operations in %v", g, errUndecided, len(ops), patience)
		}
	}
	return nil
}

// stuck shows the end of the longest linearization, and the operations that could not come next.
func stuck(all []*op, info porcupine.LinearizationInfo) string {
	var order []*op
	for _, partition := range info.PartialLinearizationsOperations() {
		for _, l := range partition {
			if len(l) <= len(order) {
				continue
			}
			order = nil
			for _, o := range l {
				order = append(order, o.Metadata.(*op))
			}
		}
	}
	rest := slices.DeleteFunc(slices.Clone(all), func(o *op) bool { return o.out.result == failed || slices.Contains(order, o) })
	slices.SortFunc(rest, func(a, b *op) int { return cmp.Compare(a.ret, b.ret) })
	var b strings.Builder
	for _, part := range []struct {
		title string
		ops   []*op
	}{
		{fmt.Sprintf("the last of the %d of %d operations that could be put in order:", len(order), len(all)), order[max(0, len(order)-12):]},
		{"what could not come next:", rest[:min(len(rest), 8)]},
	} {
		fmt.Fprintf(&b, "\n%s", part.title)
		for _, o := range part.ops {
			fmt.Fprintf(&b, "\n  %v", o)
		}
	}
	return b.String()
}
