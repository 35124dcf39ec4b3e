package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/etcdtest"
)

// The keys in etcd.
const (
	prefix    = "coreos.com/updateengine/rebootlock/"
	semaphore = prefix + "semaphore"
	queue     = prefix + "queue/"
	records   = prefix + "fleet/"
)

// verdict is what the history shows about fairness and safety.
type verdict struct {
	acquired  int // slots taken
	atOnce    int // at most, held at the same time
	overtaken int // at most, hosts that got a slot before one ahead of them in the queue
	lost      int // entries that left the queue without getting a slot
	left      []string
}

// wrong returns an error with all violations.
func (v verdict) wrong(hosts, max int) error {
	var wrong []error
	if v.acquired != hosts {
		wrong = append(wrong, fmt.Errorf("%d slots were taken", v.acquired))
	}
	if v.atOnce > max {
		wrong = append(wrong, fmt.Errorf("%d hosts held a slot at once, where max is %d", v.atOnce, max))
	}
	if v.overtaken > 0 {
		wrong = append(wrong, fmt.Errorf("a host was overtaken by %d others", v.overtaken))
	}
	if v.lost > 0 {
		wrong = append(wrong, fmt.Errorf("%d places in the queue were lost", v.lost))
	}
	if len(v.left) > 0 {
		wrong = append(wrong, fmt.Errorf("left behind in etcd: %s", strings.Join(v.left, ", ")))
	}
	return errors.Join(wrong...)
}

// judge reads the whole history of the lock. It also returns the number of transactions that changed something.
func judge(ctx context.Context, s *etcdtest.Server) (v verdict, writes int64, err error) {
	client, err := s.Client()
	if err != nil {
		return verdict{}, 0, err
	}
	now, err := client.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		return verdict{}, 0, fmt.Errorf("read what is left: %w", err)
	}
	h := history{places: map[string]int{}}
	last := int64(0)
	for _, kv := range now.Kvs {
		if last = max(last, kv.ModRevision); string(kv.Key) != semaphore && !strings.HasPrefix(string(kv.Key), records) {
			h.left = append(h.left, string(kv.Key))
		}
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	at := int64(0)
	for resp := range client.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(1)) {
		if err := resp.Err(); err != nil {
			return verdict{}, 0, fmt.Errorf("read the history: %w", err)
		}
		// A response has all events of a transaction, and may have those of several.
		for events := resp.Events; len(events) > 0; writes++ {
			at = events[0].Kv.ModRevision
			n := 1
			for n < len(events) && events[n].Kv.ModRevision == at {
				n++
			}
			if err := h.add(events[:n]); err != nil {
				return verdict{}, 0, fmt.Errorf("read the history: at revision %d: %w", at, err)
			}
			events = events[n:]
		}
		if at >= last {
			break
		}
	}
	if at < last {
		return verdict{}, 0, fmt.Errorf("read the history: it ends at revision %d, before %d", at, last)
	}
	return h.verdict(), writes, nil
}

// history is the history of the lock, transaction by transaction.
type history struct {
	places  map[string]int // of the ids in the queue: how many came before
	came    int
	turns   []int // places, in the order in which they got a slot
	holders []string
	atOnce  int
	lost    int
	left    []string
}

// add adds the events of one transaction.
func (h *history) add(events []*clientv3.Event) error {
	var gone, got []string
	for _, event := range events {
		key := string(event.Kv.Key)
		id, queued := strings.CutPrefix(key, queue)
		switch {
		case queued && event.IsCreate():
			h.places[id] = h.came
			h.came++
		case queued && event.Type == clientv3.EventTypeDelete:
			gone = append(gone, id)
		case key == semaphore:
			s, err := lock.ParseSemaphore(event.Kv.Value)
			if err != nil {
				return fmt.Errorf("the semaphore: %w", err)
			}
			got = slices.DeleteFunc(slices.Clone(s.Holders), func(id string) bool { return slices.Contains(h.holders, id) })
			h.holders = s.Holders
			h.atOnce = max(h.atOnce, len(s.Holders))
		}
	}
	for _, id := range got {
		place, queued := h.places[id]
		if !queued { // it came only now
			place = h.came
			h.came++
		}
		h.turns = append(h.turns, place)
	}
	for _, id := range gone {
		delete(h.places, id)
		if !slices.Contains(got, id) {
			h.lost++
		}
	}
	return nil
}

func (h *history) verdict() verdict {
	v := verdict{acquired: len(h.turns), atOnce: h.atOnce, lost: h.lost, left: h.left}
	for _, id := range h.holders {
		v.left = append(v.left, id+" holds a slot")
	}
	for i, place := range h.turns {
		before := 0
		for _, other := range h.turns[:i] {
			if other > place {
				before++
			}
		}
		v.overtaken = max(v.overtaken, before)
	}
	return v
}
