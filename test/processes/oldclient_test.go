package processes

import (
	"context"
	"encoding/json"
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmithd/locksmith/test/must"
)

// semaphore is the document as other clients know it. It repeats the product's definition, so that a change there
// does not go unnoticed.
type semaphore struct {
	Semaphore int      `json:"semaphore"`
	Max       int      `json:"max"`
	Holders   []string `json:"holders"`
}

func (s semaphore) String() string {
	data, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(data)
}

// holds is the condition that id has a slot.
func holds(id string) func(semaphore) bool {
	return func(s semaphore) bool { return slices.Contains(s.Holders, id) }
}

// swap acts as a client that knows only the document: it applies change by compare-and-swap on the revision that
// it read. It returns false if change does.
func (g *group) swap(change func(*semaphore) bool) bool {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), patience)
	defer cancel()
	for {
		response, err := g.client.Get(ctx, g.key())
		must.Do(g.t, err)
		s := semaphore{Semaphore: 1, Max: 1}
		var revision int64
		if len(response.Kvs) > 0 {
			revision = response.Kvs[0].ModRevision
			must.Do(g.t, json.Unmarshal(response.Kvs[0].Value, &s))
		}
		if !change(&s) {
			return false
		}
		swapped, err := g.client.Txn(ctx).
			If(clientv3.Compare(clientv3.ModRevision(g.key()), "=", revision)).
			Then(clientv3.OpPut(g.key(), s.String())).
			Commit()
		must.Do(g.t, err)
		if swapped.Succeeded {
			return true
		}
	}
}

// lock takes a slot for id as such a client.
func (g *group) lock(id string) bool {
	g.t.Helper()
	return g.swap(func(s *semaphore) bool {
		if s.Semaphore <= 0 {
			return false
		}
		s.Semaphore--
		s.Holders = append(s.Holders, id)
		slices.Sort(s.Holders)
		return true
	})
}

// unlock releases the slot of id as such a client.
func (g *group) unlock(id string) {
	g.t.Helper()
	g.swap(func(s *semaphore) bool {
		s.Semaphore++
		s.Holders = slices.DeleteFunc(s.Holders, func(h string) bool { return h == id })
		return true
	})
}

// setMax sets the number of slots as such a client.
func (g *group) setMax(n int) {
	g.t.Helper()
	g.swap(func(s *semaphore) bool {
		s.Semaphore += n - s.Max
		s.Max = n
		return true
	})
}
