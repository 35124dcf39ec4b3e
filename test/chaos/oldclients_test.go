package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/locksmithd/locksmith/lock"
)

// oldClient is a client of another program that knows only the document: it reads, and then compares and swaps.
type oldClient struct {
	client
	etcd     *clientv3.Client
	key      string
	holding  bool
	compared int64 // the revision that the open transactions compare, if there are any
}

func newOldClient(c client, endpoints []string) (*oldClient, error) {
	etcd, err := clientv3.New(clientv3.Config{Endpoints: endpoints, Logger: zap.NewNop()})
	if err != nil {
		return nil, fmt.Errorf("make old client: %w", err)
	}
	return &oldClient{client: c, etcd: etcd, key: semaphoreKey(c.group)}, nil
}

// oldDocument is the document as an old client knows it.
type oldDocument struct {
	Semaphore int      `json:"semaphore"`
	Max       int      `json:"max"`
	Holders   []string `json:"holders"`
}

// swap reads the document, applies change, and writes it if the result of change is done.
func (c *oldClient) swap(ctx context.Context, in input, change func(*oldDocument) result) output {
	in.group, in.old = c.group, true
	o := c.run.history.call(c.number, in)
	out := output{result: failed}
	for tries := 0; tries < 20 && out.result == failed; tries++ {
		var revision int64
		out, revision = c.swapOnce(ctx, change)
		if out.result == unknown {
			c.compared = revision
		}
	}
	c.run.history.end(o, out, nil)
	c.run.count(in, out, 0)
	if out.result != unknown {
		return out
	}
	// All open transactions compare the same revision, so at most one of them can happen. A second one of a kind would
	// add no information, and double the work of the checker.
	if slices.ContainsFunc(c.open, func(earlier *op) bool { return earlier.in == o.in }) {
		c.run.history.drop(o)
	} else {
		c.open = append(c.open, o)
	}
	return out
}

func (c *oldClient) swapOnce(ctx context.Context, change func(*oldDocument) result) (out output, revision int64) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	got, err := c.etcd.Get(ctx, c.key)
	if err != nil {
		return output{result: failed}, 0
	}
	d := oldDocument{Semaphore: 1, Max: 1}
	if len(got.Kvs) > 0 {
		revision = got.Kvs[0].ModRevision
		d = oldDocument{}
		if err := json.Unmarshal(got.Kvs[0].Value, &d); err != nil {
			c.run.problem("an old client cannot read %s: %v", got.Kvs[0].Value, err)
			return output{result: failed}, 0
		}
	}
	if len(c.open) > 0 && revision != c.compared {
		c.run.history.close(c.open)
		c.open = nil
	}
	seen := c.run.look(lock.Semaphore{Max: d.Max, Holders: d.Holders})
	if r := change(&d); r != done {
		return output{result: r, seen: seen}, revision
	}
	data, err := json.Marshal(d)
	if err != nil {
		panic(err) // numbers and strings always encode
	}
	txn, err := c.etcd.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(c.key), "=", revision)).
		Then(clientv3.OpPut(c.key, string(data))).Commit()
	switch {
	case err != nil:
		return output{result: unknown}, revision
	case !txn.Succeeded:
		return output{result: failed}, revision
	}
	c.run.history.close(c.open)
	c.open = nil
	return output{result: done, seen: seen}, revision
}

func (c *oldClient) acquire(ctx context.Context) output {
	return c.swap(ctx, input{kind: acquire, id: c.id}, func(d *oldDocument) result {
		switch {
		case slices.Contains(d.Holders, c.name()):
			return already
		case d.Semaphore <= 0:
			return full
		}
		d.Semaphore--
		d.Holders = append(d.Holders, c.name())
		slices.Sort(d.Holders)
		return done
	})
}

func (c *oldClient) release(ctx context.Context) output {
	return c.swap(ctx, input{kind: release, id: c.id}, func(d *oldDocument) result {
		i := slices.Index(d.Holders, c.name())
		if i < 0 {
			return notHeld
		}
		d.Semaphore++
		d.Holders = slices.Delete(d.Holders, i, i+1)
		return done
	})
}

func (c *oldClient) act(ctx context.Context) {
	if c.holding {
		out := c.release(c.run.ctx)
		c.holding = out.result != done && out.result != notHeld
	} else {
		out := c.acquire(c.run.ctx)
		c.holding = out.result != full // perhaps, if the outcome is unknown
	}
	pace(ctx, time.Duration(c.rng.IntN(10))*time.Millisecond)
}

// drain releases the slot, and makes sure that no transaction is under way.
func (c *oldClient) drain(ctx context.Context) error {
	for {
		out := c.release(ctx)
		if len(c.open) > 0 { // the document has not changed since
			c.swap(ctx, input{kind: status}, func(*oldDocument) result { return done })
			continue
		}
		if out.result == done || out.result == notHeld {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("old client %s in group %d cannot release its slot", c.name(), c.group)
		}
	}
}
