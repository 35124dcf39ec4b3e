package chaos

import (
	"encoding/json"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/locksmithd/locksmith/lock"
)

// recorded records the change of a record. by is how the slot was taken that it is about, or report where it is by a
// report about a slot that is held.
func (w *witness) recorded(g int, id string, kv *mvccpb.KeyValue, put bool) (by kind, n int) {
	n, err := idBit(id)
	if err != nil || n >= maxClients {
		w.run.problem("revision %d changes %s, which belongs to no host: %v", kv.ModRevision, kv.Key, err)
		return "", 0
	}
	host, phase := &w.groups[g].hosts[n], &w.groups[g].phases[n]
	if host.record, *phase = (record{}), ""; !put {
		return "", n
	}
	var r lock.Record
	if err = json.Unmarshal(kv.Value, &r); err == nil {
		host.record, err = newRecord(r)
	}
	if by = kind(r.By); r.Remote {
		by = preReboot
	}
	if err != nil || by != acquire && by != queue && by != report && by != preReboot {
		w.run.problem("revision %d makes %s a record that no client writes: %s (%v)", kv.ModRevision, kv.Key, kv.Value, err)
	}
	if *phase = r.Phase; r.Phase != "" {
		by = report
	}
	return by, n
}

// unwell records the change of an entry of an unwell host.
func (w *witness) unwell(g int, id string, kv *mvccpb.KeyValue, put bool) {
	n, err := idBit(id)
	if err != nil || n >= maxClients {
		w.run.problem("revision %d changes %s, which belongs to no host: %v", kv.ModRevision, kv.Key, err)
		return
	}
	host := &w.groups[g].hosts[n]
	if host.unwell = (unwell{}); !put {
		return
	}
	var u lock.UnwellHost
	if err = json.Unmarshal(kv.Value, &u); err == nil {
		host.unwell, err = newUnwell(u)
	}
	if err != nil {
		w.run.problem("revision %d makes %s what no host writes: %s (%v)", kv.ModRevision, kv.Key, kv.Value, err)
	}
}

// reported checks how one revision has changed the records and entries of the hosts of a group, some of them by
// reports.
func (w *witness) reported(revision int64, g int, before group, reports uint64) {
	now := w.groups[g]
	written := now.document != nil && now.document != before.document
	for id := range now.hosts {
		wrong := func(what string) {
			w.run.problem("revision %d of group %d, from %+v (%q) to %+v (%q), the document written %v: %s: %s", revision, g,
				before.hosts[id], before.phases[id], now.hosts[id], now.phases[id], written, idName(id), what)
		}
		held := before.document != nil && before.document.holders&(1<<id) != 0
		holds := now.document != nil && now.document.holders&(1<<id) != 0
		tells, phase := reports&(1<<id) != 0, now.phases[id]
		if tells {
			was, is := before.hosts[id].record, now.hosts[id].record
			switch {
			case !held || !holds:
				wrong("a host reports that holds no slot")
			case !written:
				wrong("a report does not write the document, so that takes that were decided before get through")
			case booted(phase) && (is.version != was.version || is.boot != was.boot):
				wrong("a report of a host that has booted changes what its slot was taken for")
			}
		}
		was, is := before.hosts[id].unwell, now.hosts[id].unwell
		left := was
		left.left = true
		ended := written && (held && !holds || tells && phase == lock.Delaying)
		switch {
		case is == was, was.force() && is == was.resume():
		case was.there && is == left:
			if !ended && !(tells && !booted(phase) && now.hosts[id].record.version != was.version) {
				wrong("a host has left its version, and neither reboots for another one nor is well")
			}
		case is.force():
			switch {
			case !tells || phase != lock.Unwell:
				wrong("a version is paused without a report of its host")
			case was.there && was.resumed && was.boot == is.boot:
				wrong("a pause that was resumed comes back in the same boot")
			case is.version != now.hosts[id].record.version && !(was.there && was.boot == is.boot && was.version == is.version):
				wrong("another version is paused than that of the slot")
			}
		case is.there:
			wrong("an entry is changed in a way that nothing does")
		case !ended && (was.resumed || !tells || phase != lock.Unwell):
			wrong("an entry ends, and its host is not well")
		}
	}
}

// unwellHost reports whether a host pauses a version.
func (w *witness) unwellHost() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.groups, func(g group) bool {
		return slices.ContainsFunc(g.hosts[:], func(a about) bool { return a.unwell.force() })
	})
}
