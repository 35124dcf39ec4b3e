package chaos

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/realpart"
	"github.com/locksmithd/locksmith/test/storetest"
)

// Each of these stores makes the real lock behave as if it had a bug that the lock's protocol prevents. The harness
// has to find each of them; otherwise a run without findings would show nothing.

func TestBugIsFound(t *testing.T) {
	t.Parallel()
	history := func(r *Report) []string { return r.History }
	revisions := func(r *Report) []string { return r.Revisions }
	liveness := func(r *Report) []string { return r.Liveness }
	const normal, short = 15 * time.Second, 5 * time.Second // a bug that leaves hosts without their turn costs no more
	for _, test := range []struct {
		name     string
		bug      func(lock.Store) lock.Store
		by       func(*Report) []string
		patience time.Duration
	}{
		{"writing without comparing the revision", comparesNothing, history, normal},
		{"repeating a write blindly", repeatsBlindly, history, normal},
		{"taking a time-out for a refusal", takesTimeoutForRefusal, history, normal},
		{"taking a time-out for a conflict", takesTimeoutForConflict, history, normal},
		{"not comparing whether there is a pause", overlooksPauses, revisions, normal},
		{"overlooking earlier hosts in the queue", jumpsTheQueue, revisions, normal},
		{"leaving the lease of a pause behind", keepsLeases, liveness, normal},
		{"not writing what identifies a renamed host", forgetsFacts, revisions, normal},
		{"overlooking unwell hosts", overlooksUnwell, revisions, normal},
		{"reporting without writing the document", reportsBeside, revisions, normal},
		{"forgetting that a pause was resumed", forgetsResume, revisions, normal},
		{"ending the pause of a host with any release", endsPauses, history, normal},
		{"watching without receiving changes", deaf, liveness, short},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			for range 5 { // another consequence of the bug may be found first
				c := config(t)
				c.Remote = 0
				c.Patience, c.Ops, c.WindowOps, c.Duration = test.patience, 20_000, 1000, time.Minute
				c.Break = func(s lock.Store) lock.Store { return test.bug(shortPlaces(s)) }
				report, err := Run(t.Context(), c)
				realpart.Must(t, err)
				t.Log(report)
				if len(test.by(report)) > 0 {
					return
				}
			}
			t.Error("the harness has not found the bug in the expected way")
		})
	}
}

func isSemaphore(c lock.Cond) bool { return strings.HasSuffix(c.Key, "/semaphore") }

// before returns a store that runs a hook before its calls of one method.
func before(s lock.Store, m storetest.Method, hook func(*storetest.Call) error) lock.Store {
	return &storetest.Hooked{Store: s, Before: func(c *storetest.Call) error {
		if c.Method != m {
			return nil
		}
		return hook(c)
	}}
}

// afterCommit returns a store that runs a hook after each transaction.
func afterCommit(s lock.Store, hook func(*storetest.Call)) lock.Store {
	return &storetest.Hooked{Store: s, After: func(c *storetest.Call) {
		if c.Method == storetest.Commit {
			hook(c)
		}
	}}
}

func comparesNothing(s lock.Store) lock.Store {
	return before(s, storetest.Commit, func(c *storetest.Call) error {
		c.Conds = slices.DeleteFunc(slices.Clone(c.Conds), isSemaphore)
		return nil
	})
}

// repeatsBlindly sends an unanswered transaction again, as if nothing could have changed since.
func repeatsBlindly(s lock.Store) lock.Store {
	return afterCommit(s, func(c *storetest.Call) {
		conds := slices.Clone(c.Conds)
		for unanswered(c.Err) && c.Ctx.Err() == nil {
			for i, cond := range conds {
				if !isSemaphore(cond) {
					continue
				}
				snap, err := s.Get(c.Ctx, lock.Read{Key: cond.Key})
				if err != nil {
					c.Err = err
					return
				}
				conds[i].ModRevision = snap.Values[cond.Key].ModRevision
			}
			c.OK, c.Snapshot, c.Err = s.Commit(c.Ctx, conds, c.Ops, c.Reads...)
		}
	})
}

func takesTimeoutForRefusal(s lock.Store) lock.Store {
	return afterCommit(s, func(c *storetest.Call) {
		if unanswered(c.Err) {
			c.Err = fmt.Errorf("%w: %w", lock.ErrRefused, c.Err)
		}
	})
}

// takesTimeoutForConflict makes the lock decide again from the present state, as if another client had changed it.
func takesTimeoutForConflict(s lock.Store) lock.Store {
	return afterCommit(s, func(c *storetest.Call) {
		if !unanswered(c.Err) {
			return
		}
		reads := slices.Clone(c.Reads)
		for _, cond := range c.Conds {
			reads = append(reads, lock.Read{Key: cond.Key, End: cond.End})
		}
		if snap, err := s.Get(c.Ctx, reads...); err == nil {
			c.OK, c.Snapshot, c.Err = false, snap, nil
		}
	})
}

func overlooksPauses(s lock.Store) lock.Store {
	return before(s, storetest.Commit, func(c *storetest.Call) error {
		if len(c.Conds) > 1 {
			c.Conds = slices.DeleteFunc(slices.Clone(c.Conds), func(cond lock.Cond) bool { return strings.Contains(cond.Key, "/pause") })
		}
		return nil
	})
}

// jumpsTheQueue finds an empty queue, and an empty index of it.
func jumpsTheQueue(s lock.Store) lock.Store {
	return &storetest.Hooked{Store: s, Before: func(c *storetest.Call) error {
		c.Reads = slices.DeleteFunc(slices.Clone(c.Reads), func(r lock.Read) bool {
			return r.End != "" && (strings.Contains(r.Key, "/order/") || strings.Contains(r.Key, "/queue/"))
		})
		return nil
	}}
}

// keepsLeases does not revoke the lease of a long pause.
func keepsLeases(s lock.Store) lock.Store {
	var kept sync.Map // leases of long pauses
	return &storetest.Hooked{Store: s,
		Before: func(c *storetest.Call) error {
			if _, ok := kept.Load(c.Lease); ok && c.Method == storetest.Revoke {
				c.Lease = -1 // there is none, which counts as one that has run out
			}
			return nil
		},
		After: func(c *storetest.Call) {
			if c.Method == storetest.Grant && c.TTL == long {
				kept.Store(c.Lease, true)
			}
		},
	}
}

// forgetsFacts writes neither hardware nor token.
func forgetsFacts(s lock.Store) lock.Store {
	return before(s, storetest.Commit, func(c *storetest.Call) error {
		c.Ops = slices.Clone(c.Ops)
		for i, op := range c.Ops {
			var r lock.Record
			if strings.Contains(op.Key, "/holders/") && !op.Delete && json.Unmarshal(op.Value, &r) == nil {
				r.Hardware, r.Token = "", ""
				c.Ops[i].Value, _ = json.Marshal(r) // cannot fail: it was read from JSON
			}
		}
		return nil
	})
}

func deaf(s lock.Store) lock.Store {
	return before(s, storetest.Wait, func(c *storetest.Call) error {
		<-c.Ctx.Done()
		return c.Ctx.Err()
	})
}

// overlooksUnwell finds no unwell host where it is about to take a slot.
func overlooksUnwell(s lock.Store) lock.Store {
	isUnwell := func(key string) bool { return strings.Contains(key, "/unwell/") }
	isRange := func(r lock.Read) bool { return r.End != "" && isUnwell(r.Key) }
	return &storetest.Hooked{Store: s, Before: func(c *storetest.Call) error {
		if c.Method == storetest.Commit || len(c.Reads) > 1 { // and not Resume
			c.Reads = slices.DeleteFunc(slices.Clone(c.Reads), isRange)
			c.Conds = slices.DeleteFunc(slices.Clone(c.Conds), func(cond lock.Cond) bool { return cond.End != "" && isUnwell(cond.Key) })
		}
		return nil
	}}
}

// isReport reports whether a transaction has a host say that it is unwell.
func isReport(op lock.Op) bool { return strings.Contains(op.Key, "/unwell/") && !op.Delete }

func reportsBeside(s lock.Store) lock.Store {
	return before(s, storetest.Commit, func(c *storetest.Call) error {
		if slices.ContainsFunc(c.Ops, isReport) {
			c.Ops = slices.DeleteFunc(slices.Clone(c.Ops), func(op lock.Op) bool { return strings.HasSuffix(op.Key, "/semaphore") })
		}
		return nil
	})
}

// forgetsResume reads entries as if nobody had resumed, where it is about to report.
func forgetsResume(s lock.Store) lock.Store {
	return &storetest.Hooked{Store: s, After: func(c *storetest.Call) {
		if c.Method != storetest.Get || !slices.ContainsFunc(c.Reads, func(r lock.Read) bool { return r.End == "" && strings.Contains(r.Key, "/alive/") }) {
			return
		}
		for key, v := range c.Snapshot.Values {
			if strings.Contains(key, "/unwell/") {
				v.Data = bytes.Replace(v.Data, []byte(`,"resumed":true`), nil, 1)
				c.Snapshot.Values[key] = v
			}
		}
	}}
}

// endsPauses deletes the entry of a host whenever its slot is released.
func endsPauses(s lock.Store) lock.Store {
	return before(s, storetest.Commit, func(c *storetest.Call) error {
		for _, op := range c.Ops {
			entry := lock.Op{Key: strings.Replace(op.Key, "/holders/", "/unwell/", 1), Delete: true}
			if op.Delete && entry.Key != op.Key && !slices.ContainsFunc(c.Ops, func(o lock.Op) bool { return o.Key == entry.Key }) {
				c.Ops = append(slices.Clone(c.Ops), entry)
			}
		}
		return nil
	})
}
