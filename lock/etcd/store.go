// Package etcd is the [lock.Store] of hosts: etcd, reached by its v3 API, with TLS and users. It knows
// nothing of the lock but the interface, and the folder of keys that its user needs permission for.
package etcd

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmithd/locksmith/lock"
)

const (
	// attemptTimeout is how long one request may take before other endpoints get their chance.
	attemptTimeout = 2 * time.Second
	// commitTimeout bounds a transaction, which is tried once.
	commitTimeout = 3 * time.Second
)

// Store is a [lock.Store] in etcd, 3.4 or newer. It connects at its first use, to all endpoints at once, and
// uses those that answer. After a failure it connects again, each time without another one of the
// endpoints: so it leaves a member that answers but cannot serve, such as one
// that is cut off from the others. Calls that are under way go on by the old connection: one that fails does
// not disturb the others. It is safe for concurrent use.
//
// No call outlasts its context. Apart from that, Get takes at most 11 s, or 19 s where it also has to
// log in each time; Commit takes 3 s, or 5 s. A Wait notices within 13 s that the member it watches went
// silent, and goes on with another one.
type Store struct {
	config Config

	dialing chan struct{} // is full while a connection is made, which takes seconds with a log-in; taken before mu
	worked  bool          // the files could be used at least once since the last Close; dialing guards it

	mu       sync.Mutex
	current  *connection // nil while not connected
	failures int         // since the last Close
	dialed   dialed
}

// dialed is how the last attempt to make a connection has ended.
type dialed struct {
	number int   // how many there were
	err    error // nil if it has succeeded, or was called off
}

var _ lock.Store = (*Store)(nil)

// New returns a store that is not connected yet. The configuration is checked, and its files are
// read, whenever it connects. Files that cannot be used are refused. If they could be used since the
// last Close they are probably being renewed, and that is a failure like any other, to be retried.
func New(c Config) *Store {
	return &Store{config: c, dialing: make(chan struct{}, 1)}
}

// Close drops the connection, if there is one, and waits for one that is being made. The next call connects again, and
// so may calls that are under way.
func (s *Store) Close() error {
	s.dialing <- struct{}{}
	defer func() { <-s.dialing }()
	s.worked = false
	s.mu.Lock()
	s.failures = 0
	c := s.current
	s.current = nil
	s.mu.Unlock()
	if c == nil {
		return nil
	}
	if err := c.client.Close(); err != nil {
		return fmt.Errorf("close connection to etcd: %w", err)
	}
	return nil
}

// Get implements [lock.Store].
func (s *Store) Get(ctx context.Context, reads ...lock.Read) (lock.Snapshot, error) {
	ctx = withMost(ctx, reads)
	resp, err := request(ctx, s, func(ctx context.Context, c *clientv3.Client) (*clientv3.TxnResponse, error) {
		return c.Txn(ctx).Then(gets(reads)...).Commit()
	})
	if err != nil {
		return lock.Snapshot{}, fmt.Errorf("read %s: %w", brief(reads, func(r lock.Read) string { return r.Key }), err)
	}
	return snapshot(resp), nil
}

// request makes a request that may be repeated.
func request[R any](
	ctx context.Context, s *Store, send func(context.Context, *clientv3.Client) (R, error),
) (resp R, err error) {
	err = s.retry(ctx, func(client *clientv3.Client) error {
		ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
		defer cancel()
		resp, err = send(ctx, client)
		return err
	})
	return resp, err
}

// Commit implements [lock.Store].
func (s *Store) Commit(ctx context.Context, conds []lock.Cond, ops []lock.Op, reads ...lock.Read) (ok bool, now lock.Snapshot, err error) {
	var ifs []clientv3.Cmp
	var otherwise []lock.Read
	for _, c := range conds {
		if c.End != "" {
			// For a range without keys, etcd compares with a key that does not exist.
			ifs = append(ifs, clientv3.Compare(clientv3.CreateRevision(c.Key).WithRange(c.End), "=", 0))
			continue
		}
		ifs = append(ifs, clientv3.Compare(clientv3.ModRevision(c.Key), "=", c.ModRevision))
		otherwise = append(otherwise, lock.Read{Key: c.Key})
	}
	var thens []clientv3.Op
	for _, op := range ops {
		if op.Delete {
			thens = append(thens, clientv3.OpDelete(op.Key))
		} else {
			thens = append(thens, clientv3.OpPut(op.Key, string(op.Value), clientv3.WithLease(clientv3.LeaseID(op.Lease))))
		}
	}
	err = s.once(ctx, func(client *clientv3.Client) error {
		ctx, cancel := context.WithTimeout(ctx, commitTimeout)
		defer cancel()
		resp, err := client.Txn(ctx).If(ifs...).Then(append(thens, gets(reads)...)...).
			Else(append(gets(otherwise), gets(reads)...)...).Commit()
		if err == nil {
			ok, now = resp.Succeeded, snapshot(resp)
		}
		return err
	})
	if err != nil {
		return false, lock.Snapshot{}, fmt.Errorf("write %s: %w", brief(conds, func(c lock.Cond) string { return c.Key }), err)
	}
	return ok, now, nil
}

// Wait implements [lock.Store].
func (s *Store) Wait(ctx context.Context, watches ...lock.Watch) (lock.Snapshot, error) {
	var snap lock.Snapshot
	again := false
	err := s.retry(ctx, func(client *clientv3.Client) (err error) {
		if again {
			// All keys have to be read: if etcd was restored from a backup meanwhile, it gives out its revisions
			// a second time, and a watch that continued from its old revision would miss changes.
			_, err = revision(ctx, client, watches[0].Key)
			return err
		}
		again = true
		snap, err = watch(ctx, client, watches)
		return err
	})
	if errors.Is(err, rpctypes.ErrCompacted) {
		return lock.Snapshot{}, nil
	}
	if err != nil {
		return lock.Snapshot{}, fmt.Errorf("watch %s: %w", brief(watches, func(w lock.Watch) string { return w.Key }), err)
	}
	return snap, nil
}

// watch waits for one change. It uses a stream of its own and not the client's Watcher, which
// would hide an outage for as long as it lasts.
func watch(ctx context.Context, client *clientv3.Client, watches []lock.Watch) (snap lock.Snapshot, err error) {
	ctx, cancel := context.WithCancelCause(clientv3.WithRequireLeader(ctx))
	defer cancel(nil)
	overdue := time.AfterFunc(attemptTimeout, func() { cancel(context.DeadlineExceeded) })
	defer overdue.Stop()
	defer func() {
		if err != nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
	}()
	stream, err := etcdserverpb.NewWatchClient(client.ActiveConnection()).Watch(ctx)
	if err != nil {
		return lock.Snapshot{}, err
	}
	var newest int64
	for _, w := range watches {
		newest = max(newest, w.After)
		create := &etcdserverpb.WatchCreateRequest{
			Key: []byte(w.Key), RangeEnd: []byte(w.End), StartRevision: w.After + 1,
		}
		// An error of Send is only that the stream has ended; Recv says why.
		_ = stream.Send(&etcdserverpb.WatchRequest{RequestUnion: &etcdserverpb.WatchRequest_CreateRequest{CreateRequest: create}})
	}
	for created := 0; ; {
		resp, err := stream.Recv()
		switch {
		case err != nil:
			return lock.Snapshot{}, err
		case resp.CompactRevision != 0:
			return lock.Snapshot{}, rpctypes.ErrCompacted
		case resp.Canceled:
			return lock.Snapshot{}, fmt.Errorf("etcd ended the watch: %s", resp.CancelReason)
		case resp.Created:
			if created++; created < len(watches) {
				break
			}
			// A member may be behind the others for a moment, but etcd as a whole only if it was
			// restored from a backup: a watch reports nothing until etcd reaches its revision.
			if resp.Header.Revision < newest {
				if now, err := revision(ctx, client, watches[0].Key); err != nil || now < newest {
					return lock.Snapshot{}, err
				}
			}
			overdue.Stop()
		}
		if len(resp.Events) == 0 {
			continue
		}
		snap = lock.Snapshot{Values: map[string]lock.Value{}}
		for _, event := range resp.Events {
			snap.Revision = event.Kv.ModRevision
			if event.Type == clientv3.EventTypePut {
				snap.Values[string(event.Kv.Key)] = value(event.Kv)
			} else {
				snap.Values[string(event.Kv.Key)] = lock.Value{}
			}
		}
		return snap, nil
	}
}

// revision returns the current revision of etcd. key is one that this client may read.
func revision(ctx context.Context, client *clientv3.Client, key string) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	resp, err := client.Get(ctx, key, clientv3.WithKeysOnly())
	if err != nil {
		return 0, err
	}
	return resp.Header.Revision, nil
}

// Grant implements [lock.Store].
func (s *Store) Grant(ctx context.Context, ttl time.Duration) (lease int64, err error) {
	seconds := int64((ttl + time.Second - 1) / time.Second)
	resp, err := request(ctx, s, func(ctx context.Context, c *clientv3.Client) (*clientv3.LeaseGrantResponse, error) {
		return c.Grant(ctx, seconds) // a lease whose reply is lost runs out
	})
	if err != nil {
		return 0, fmt.Errorf("get a lease: %w", err)
	}
	return int64(resp.ID), nil
}

// KeepAlive implements [lock.Store]. It does not use the client's KeepAlive, which retries without end.
func (s *Store) KeepAlive(ctx context.Context, lease int64) error {
	err := s.once(ctx, func(client *clientv3.Client) error {
		ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), attemptTimeout)
		defer cancel()
		stream, err := etcdserverpb.NewLeaseClient(client.ActiveConnection()).LeaseKeepAlive(ctx)
		if err != nil {
			return err
		}
		// An error of Send is only that the stream has ended; Recv says why.
		_ = stream.Send(&etcdserverpb.LeaseKeepAliveRequest{ID: lease})
		resp, err := stream.Recv()
		if err != nil {
			return err
		}
		if resp.TTL <= 0 {
			return lock.ErrNoLease
		}
		return stream.CloseSend()
	})
	if err != nil {
		return fmt.Errorf("keep the lease: %w", err)
	}
	return nil
}

// Revoke implements [lock.Store].
func (s *Store) Revoke(ctx context.Context, lease int64) error {
	_, err := request(ctx, s, func(ctx context.Context, c *clientv3.Client) (*clientv3.LeaseRevokeResponse, error) {
		return c.Revoke(ctx, clientv3.LeaseID(lease))
	})
	if err != nil && !errors.Is(err, lock.ErrNoLease) {
		return fmt.Errorf("end the lease: %w", err)
	}
	return nil
}

// brief names the first key, and says if there are others.
func brief[T any](of []T, key func(T) string) string {
	switch len(of) {
	case 0:
		return "keys"
	case 1:
		return key(of[0])
	}
	return key(of[0]) + " and others"
}

func gets(reads []lock.Read) []clientv3.Op {
	var ops []clientv3.Op
	for _, r := range reads {
		options := []clientv3.OpOption{clientv3.WithRange(r.End), clientv3.WithLimit(int64(r.Limit))}
		if r.KeysOnly {
			options = append(options, clientv3.WithKeysOnly())
		}
		if r.CreatedBefore != 0 {
			options = append(options, clientv3.WithMaxCreateRev(r.CreatedBefore-1),
				clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortDescend))
		}
		ops = append(ops, clientv3.OpGet(r.Key, options...))
	}
	return ops
}

// snapshot collects what the gets of a transaction have read.
func snapshot(resp *clientv3.TxnResponse) lock.Snapshot {
	values := 0
	for _, r := range resp.Responses {
		values += len(r.GetResponseRange().GetKvs())
	}
	snap := lock.Snapshot{Revision: resp.Header.Revision, Values: make(map[string]lock.Value, values)}
	for _, r := range resp.Responses {
		for _, kv := range r.GetResponseRange().GetKvs() {
			if _, ok := snap.Values[string(kv.Key)]; !ok {
				snap.Values[string(kv.Key)] = value(kv)
			}
		}
	}
	return snap
}

func value(kv *mvccpb.KeyValue) lock.Value {
	return lock.Value{Data: kv.Value, ModRevision: kv.ModRevision, CreateRevision: kv.CreateRevision, Lease: kv.Lease}
}
