package chaos

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/locksmithd/locksmith/lock"
)

// tell makes a report.
func (h *host) tell(t told) output {
	out := h.do(input{kind: report, id: h.id, report: t}, func(ctx context.Context) (output, error) {
		r := lock.Report{Phase: t.phase, Why: fmt.Sprint("chaos ", h.rng.IntN(100)), Pause: t.pause}
		if t.again {
			h.version = t.version
			next := h.record(report)
			r.Again = &next
		}
		return output{result: done}, h.lock.Report(ctx, h.name(), r)
	})
	h.unwell = out.result == done && t.pause
	return out
}

// releaseWell releases the slot of a host that is well.
func (h *host) releaseWell() output {
	return h.do(input{kind: releaseWell, id: h.id}, func(ctx context.Context) (output, error) {
		return output{result: done}, h.lock.ReleaseWell(ctx, h.name())
	})
}

// chooses chooses the version that the host reboots for.
func (h *host) chooses() {
	if h.version = uint8(1 + h.rng.IntN(2)); h.rng.IntN(10) == 0 {
		h.version = 0
	}
}

// anything is a report of any kind.
func (h *host) anything() told {
	switch h.rng.IntN(10) {
	case 0:
		return told{phase: lock.Draining}
	case 1:
		return told{phase: lock.Rebooting}
	case 2:
		return told{phase: lock.Checking}
	case 3:
		return told{phase: lock.Unwell}
	case 4:
		return told{phase: lock.Delaying}
	case 5:
		return told{phase: lock.Rebooting, again: true, version: uint8(h.rng.IntN(len(versions)))}
	}
	return told{phase: lock.Unwell, pause: true}
}

// hold does something with a slot. A host that has said that it is unwell keeps it longer.
func (h *host) hold() {
	if h.rng.IntN(3) == 0 { // a report goes on from what was found
		out := h.holder()
		h.learn(out, out.held)
	}
	switch n := h.rng.IntN(10); {
	case h.unwell && n < 5: // it says so again, whether somebody has resumed or not
		h.learn(h.tell(told{phase: lock.Unwell, pause: true}), true)
	case n < 5:
		h.learn(h.tell(h.anything()), true)
	case n < 7:
		h.learn(h.release(h.id), false)
	default:
		h.learn(h.releaseWell(), false)
	}
}

// boots does what a host does that comes up, perhaps with a slot: it is well, or unwell, and may take another version
// with the slot then, which makes it well.
func (h *host) boots() {
	switch n := h.rng.IntN(6); {
	case n < 2:
		h.learn(h.release(h.id), false)
	case n < 3:
		h.learn(h.releaseWell(), false)
	default:
		h.learn(h.tell(told{phase: lock.Unwell, pause: true}), true)
		if h.holding && h.rng.IntN(2) == 0 {
			h.learn(h.tell(told{phase: lock.Rebooting, again: true, version: uint8(1 + h.rng.IntN(2))}), true)
			h.die()
			h.start(h.run.ctx)
			h.learn(h.releaseWell(), false)
		}
	}
}

// resumes counts the transactions that end pauses of versions.
type resumes struct{ done, unanswered int }

func (r *resumes) note(ops []lock.Op, ok bool, err error) {
	about := func(part string) bool {
		return slices.ContainsFunc(ops, func(op lock.Op) bool { return strings.Contains(op.Key, part) })
	}
	switch {
	case !about("/unwell/") || about("/semaphore"): // a report, or a release
	case unanswered(err):
		r.unanswered++
	case err == nil && ok:
		r.done++
	}
}

// resumed records that a Resume, which began at a time, has ended the pauses of hosts. If all, it has succeeded.
func (o *operator) resumed(call int64, hosts []lock.UnwellHost, before resumes, all bool) {
	if len(hosts) == 0 {
		return
	}
	in := input{group: o.group, kind: resumeFor}
	var ids []int
	for _, u := range hosts {
		id, err := idBit(u.ID)
		if err != nil {
			o.run.problem("a host was resumed that does not exist: %v", err)
			continue
		}
		ids = append(ids, id)
		in.hosts |= 1 << id
	}
	now := o.tap.resumes
	if all && now.unanswered == before.unanswered && now.done == before.done+1 {
		o.run.history.add(o.number, in, output{result: done}, call, false)
		return
	}
	// Each transaction may have happened, to other hosts than the one before, and the unanswered ones may still happen.
	for range now.unanswered + now.done - before.unanswered - before.done {
		for _, id := range ids {
			in.hosts = 1 << id
			o.run.history.add(o.number, in, output{result: unknown}, call, !all)
		}
	}
}

// lookAt converts an overview to what the model knows about hosts.
func (r *run) lookAt(o lock.Overview) *[maxClients]about {
	var hosts [maxClients]about
	at := func(id string) (*about, bool) {
		n, err := idBit(id)
		if err != nil || n >= maxClients {
			r.problem("an overview shows %s: %v", id, err)
			return nil, false
		}
		return &hosts[n], true
	}
	for _, h := range o.Holders {
		if a, ok := at(h.ID); ok && h.Record != (lock.Record{}) {
			var err error
			if a.record, err = newRecord(h.Record); err != nil {
				r.problem("an overview shows %v", err)
			}
		}
	}
	for _, u := range o.Unwell {
		if a, ok := at(u.ID); ok {
			var err error
			if a.unwell, err = newUnwell(u); err != nil {
				r.problem("an overview shows %v", err)
			}
		}
	}
	return &hosts
}
