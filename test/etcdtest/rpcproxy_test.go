package etcdtest_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
)

// commit writes key in a transaction, as the lock does.
func commit(ctx context.Context, c *clientv3.Client, key, value string) error {
	_, err := c.Txn(ctx).Then(clientv3.OpPut(key, value)).Commit()
	return err
}

func TestRPCProxyPassesCallsAndStreams(t *testing.T) {
	forEachVersion(t, func(ctx context.Context, t *testing.T, v etcdtest.Version) {
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		must.Do(t, s.EnableAuth(ctx, etcdtest.User{Name: "u", Password: "p", Prefix: "k", Permission: clientv3.PermissionType(clientv3.PermReadWrite)}))
		p := etcdtest.MustRPCProxy(t, s)
		c := newClient(t, clientv3.Config{Endpoints: []string{p.Endpoint()}, Username: "u", Password: "p"})

		watch := c.Watch(clientv3.WithRequireLeader(ctx), "k", clientv3.WithCreatedNotify())
		if r := <-watch; !r.Created {
			t.Fatalf("watch: %+v, want the answer to its creation", r)
		}
		lease, err := c.Grant(ctx, 60)
		must.Do(t, err)
		if _, err := c.Put(ctx, "k", "v", clientv3.WithLease(lease.ID)); err != nil {
			t.Fatal(err)
		}
		if r := <-watch; len(r.Events) != 1 || string(r.Events[0].Kv.Value) != "v" {
			t.Errorf("watch: %+v (%v), want one event", r, r.Err())
		}
		if _, err := c.KeepAliveOnce(ctx, lease.ID); err != nil {
			t.Errorf("keep alive: %v", err)
		}
		// The details of a server's error arrive too.
		if _, err := c.Put(ctx, "other", "v"); !errors.Is(err, rpctypes.ErrPermissionDenied) {
			t.Errorf("put elsewhere: %v, want %v", err, rpctypes.ErrPermissionDenied)
		}
		for _, method := range []string{etcdtest.Watch, etcdtest.LeaseGrant, etcdtest.KeepAlive} {
			if n := p.Calls(method); n != 1 {
				t.Errorf("%d calls of %s, want 1", n, method)
			}
		}
		if n := p.Calls(etcdtest.Authenticate); n == 0 {
			t.Error("no call of Authenticate")
		}
		if n := p.Calls(etcdtest.Put); n != 2 {
			t.Errorf("%d calls of %s, want 2", n, etcdtest.Put)
		}
	})
}

func TestRPCProxyAppliesAFaultToTheNextWrite(t *testing.T) {
	closed := make(chan struct{})
	close(closed)
	forEachVersion(t, func(ctx context.Context, t *testing.T, v etcdtest.Version) {
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		for _, c := range []struct {
			name      string
			fault     etcdtest.Fault
			code      codes.Code // that the client sees; DeadlineExceeded means silence
			committed bool
		}{
			{"LoseReply", etcdtest.LoseReply, codes.Unavailable, true},
			{"WithholdReply", etcdtest.WithholdReply, codes.DeadlineExceeded, true},
			{"LoseRequest", etcdtest.LoseRequest, codes.Unavailable, false},
			{"Hang", etcdtest.Hang, codes.DeadlineExceeded, false},
			{"Fail", etcdtest.Fail(rpctypes.ErrGRPCNoSpace), codes.ResourceExhausted, false},
			{"Late", etcdtest.Late(closed), codes.OK, true},
			{"Delay", etcdtest.Delay(time.Millisecond), codes.OK, true},
		} {
			t.Run(c.name, func(t *testing.T) {
				p := etcdtest.MustRPCProxy(t, s)
				client := clientOf(t, p.Endpoint())
				must.Do(t, commit(ctx, client, c.name, "before"))

				caught := p.Next(etcdtest.Writes, c.fault)
				wantValue(ctx, t, client, c.name, "before") // reads pass
				short, cancel := context.WithTimeout(ctx, brief)
				defer cancel()
				if c.code != codes.DeadlineExceeded {
					short = ctx
				}
				err := commit(short, client, c.name, "faulty")
				if !hasCode(err, c.code) {
					t.Errorf("client sees %v, want %v", err, c.code)
				}
				wantClosed(ctx, t, "the call arrived", caught.Arrived)
				want := "before"
				if c.committed {
					wantClosed(ctx, t, "the call was forwarded", caught.Forwarded)
					want = "faulty"
				}
				wantValue(ctx, t, outside(t, s), c.name, want)

				must.Do(t, commit(ctx, client, c.name, "after")) // passes again
				wantValue(ctx, t, outside(t, s), c.name, "after")
				if n := p.Calls(etcdtest.Txn); n != 3 {
					t.Errorf("%d transactions, want 3: the client has retried", n)
				}
			})
		}
	})
}

// hasCode reports whether an error, of the server or of the client itself, has a code.
func hasCode(err error, code codes.Code) bool {
	var e rpctypes.EtcdError
	switch {
	case errors.As(err, &e):
		return e.Code() == code
	case errors.Is(err, context.DeadlineExceeded):
		return code == codes.DeadlineExceeded
	default:
		return status.Code(err) == code
	}
}

func TestRPCProxyCommitsLateAfterTheClientHasGivenUp(t *testing.T) {
	forEachVersion(t, func(ctx context.Context, t *testing.T, v etcdtest.Version) {
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		p := etcdtest.MustRPCProxy(t, s)
		c := clientOf(t, p.Endpoint())
		release := make(chan struct{})
		caught := p.Next(etcdtest.Method(etcdtest.Txn), etcdtest.Late(release))
		wantSilence(ctx, t, func(ctx context.Context) error { return commit(ctx, c, "k", "late") })
		must.Do(t, c.Close())
		wantValue(ctx, t, outside(t, s), "k", "")
		close(release)
		wantClosed(ctx, t, "the call was forwarded", caught.Forwarded)
		wantValue(ctx, t, outside(t, s), "k", "late")
	})
}

func TestRPCProxyAppliesAFaultToEveryCallUntilCleared(t *testing.T) {
	forEachVersion(t, func(ctx context.Context, t *testing.T, v etcdtest.Version) {
		p := etcdtest.MustRPCProxy(t, etcdtest.MustStart(t, v, etcdtest.Options{}))
		c := clientOf(t, p.Endpoint())
		p.Every(etcdtest.Writes, etcdtest.LoseRequest)
		for range 3 {
			if err := commit(ctx, c, "k", "v"); !hasCode(err, codes.Unavailable) {
				t.Errorf("commit: %v, want %v", err, codes.Unavailable)
			}
		}
		p.Clear()
		must.Do(t, commit(ctx, c, "k", "v"))
	})
}

func TestRPCProxyFailsStreams(t *testing.T) {
	forEachVersion(t, func(ctx context.Context, t *testing.T, v etcdtest.Version) {
		p := etcdtest.MustRPCProxy(t, etcdtest.MustStart(t, v, etcdtest.Options{}))
		c := clientOf(t, p.Endpoint())
		caught := p.Next(etcdtest.Method(etcdtest.Watch), etcdtest.LoseRequest)
		watch := c.Watch(ctx, "k", clientv3.WithCreatedNotify())
		wantClosed(ctx, t, "the watch arrived", caught.Arrived)
		if r := <-watch; !r.Created { // the client tries again by itself
			t.Errorf("watch: %+v, want the answer to its creation", r)
		}
		if n := p.Calls(etcdtest.Watch); n != 2 {
			t.Errorf("%d watch streams, want 2", n)
		}
	})
}

func TestRPCProxyOutlivesItsServer(t *testing.T) {
	forEachVersion(t, func(ctx context.Context, t *testing.T, v etcdtest.Version) {
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		p := etcdtest.MustRPCProxy(t, s)
		c := clientOf(t, p.Endpoint())
		must.Do(t, commit(ctx, c, "k", "v"))
		s.Kill()
		if err := commit(ctx, c, "k", "v"); !hasCode(err, codes.Unavailable) {
			t.Errorf("commit without a server: %v, want %v", err, codes.Unavailable)
		}
		must.Do(t, s.Restart(ctx))
		must.Eventually(t, patience, "the server to be back", func() bool { return commit(ctx, c, "k", "v") == nil })
	})
}

func TestWritesAndReadsTellCallsApart(t *testing.T) {
	s := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{})
	p := etcdtest.MustRPCProxy(t, s)
	c := clientOf(t, p.Endpoint())
	ctx := t.Context()
	put, get, del := clientv3.OpPut("k", "v"), clientv3.OpGet("k"), clientv3.OpDelete("k")
	for _, tc := range []struct {
		name   string
		op     clientv3.Op
		writes bool
	}{
		{"put", put, true},
		{"get", get, false},
		{"delete", del, true},
		{"transaction of reads", clientv3.OpTxn(nil, []clientv3.Op{get, get}, []clientv3.Op{get}), false},
		{"transaction with a put", clientv3.OpTxn(nil, []clientv3.Op{get, put}, nil), true},
		{"transaction with a delete in the other branch", clientv3.OpTxn(nil, []clientv3.Op{get}, []clientv3.Op{del}), true},
		{"transaction in a transaction", clientv3.OpTxn(nil, []clientv3.Op{clientv3.OpTxn(nil, []clientv3.Op{put}, nil)}, nil), true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var matched []string
			note := func(name string, m etcdtest.Match) etcdtest.Match {
				return func(method string, request []byte) bool {
					if m(method, request) {
						matched = append(matched, name)
					}
					return false
				}
			}
			p.Clear()
			p.Next(note("writes", etcdtest.Writes), etcdtest.Hang)
			p.Next(note("reads", etcdtest.Reads), etcdtest.Hang)
			if _, err := c.Do(ctx, tc.op); err != nil {
				t.Fatal(err)
			}
			want := "reads"
			if tc.writes {
				want = "writes"
			}
			if len(matched) != 1 || matched[0] != want {
				t.Errorf("matched %v, want %s", matched, want)
			}
		})
	}
}

func TestRPCProxyRefusesAServerWithTLS(t *testing.T) {
	s := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{TLS: &etcdtest.TLS{CA: etcdtest.MustCA(t)}})
	if p, err := etcdtest.NewRPCProxy(s); err == nil {
		p.Close()
		t.Error("a proxy for a server with TLS was started")
	}
}
