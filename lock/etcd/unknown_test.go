package etcd_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
)

func TestLostReplyFromEtcd(t *testing.T) {
	eachEtcd(t, func(t *testing.T, v etcdtest.Version) {
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		p := etcdtest.MustRPCProxy(t, s)
		for name, fault := range map[string]etcdtest.Fault{
			"the reply is lost":        etcdtest.LoseReply,
			"the reply never comes":    etcdtest.WithholdReply,
			"the request is lost":      etcdtest.LoseRequest,
			"the request never comes":  etcdtest.Hang,
			"the request is late":      etcdtest.Delay(3500 * time.Millisecond),
			"etcd loses its leader":    etcdtest.Fail(rpctypes.ErrGRPCLeaderChanged),
			"etcd times out":           etcdtest.Fail(rpctypes.ErrGRPCTimeout),
			"the database is full now": etcdtest.Fail(rpctypes.ErrGRPCNoSpace),
			// The etcd client would send these again, and mistake the failed comparison for an answer.
			"done, and said to be canceled":  forwardAndAnswer(codes.Canceled),
			"done, and said to be timed out": forwardAndAnswer(codes.DeadlineExceeded),
			"done, and the database is full": forwardAndAnswer(codes.ResourceExhausted),
		} {
			t.Run(name, func(t *testing.T) {
				ctx := bounded(t)
				l := newLock(t, connect(t, at(p.Endpoint())), "")
				caught := p.Next(etcdtest.Writes, fault)
				lockFor(ctx, t, l, "a")
				<-caught.Arrived
				wantHolders(t, s, "a")
				caught = p.Next(etcdtest.Writes, fault)
				must.Do(t, l.Release(ctx, "a"))
				<-caught.Arrived
				wantHolders(t, s)
			})
		}
	})
}

// forwardAndAnswer lets etcd do what is asked, and sends the client an error of that code.
func forwardAndAnswer(code codes.Code) etcdtest.Fault {
	return func(_ context.Context, c *etcdtest.Call) error {
		if err := c.Forward(); err != nil {
			return err
		}
		return status.Error(code, "injected")
	}
}

func TestLockThatIsStillOnItsWayToEtcdCanBeReleased(t *testing.T) {
	eachEtcd(t, func(t *testing.T, v etcdtest.Version) {
		ctx := bounded(t)
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		p := etcdtest.MustRPCProxy(t, s)
		l := newLock(t, connect(t, at(p.Endpoint())), "")
		if _, err := l.Status(ctx); err != nil {
			t.Fatal(err)
		}
		release := make(chan struct{})
		late := p.Next(etcdtest.Writes, etcdtest.Late(release))
		p.Every(etcdtest.Writes, etcdtest.LoseRequest)
		short, cancel := context.WithCancel(ctx)
		go func() { <-late.Arrived; cancel() }()
		if _, err := l.TryAcquire(short, "a", lock.Record{}); !errors.Is(err, lock.ErrUnknown) {
			t.Fatalf("lock returned %v", err)
		}
		p.Clear()
		must.Do(t, l.Release(ctx, "a"))
		close(release)
		<-late.Forwarded
		wantHolders(t, s)
	})
}

func TestUnlockThatIsStillOnItsWayToEtcdDoesNotUndoALaterLock(t *testing.T) {
	eachEtcd(t, func(t *testing.T, v etcdtest.Version) {
		ctx := bounded(t)
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		p := etcdtest.MustRPCProxy(t, s)
		l := newLock(t, connect(t, at(p.Endpoint())), "")
		lockFor(ctx, t, l, "a")
		release := make(chan struct{})
		late := p.Next(etcdtest.Writes, etcdtest.Late(release))
		short, cancel := context.WithCancel(ctx)
		go func() { <-late.Arrived; cancel() }()
		if err := l.Release(short, "a"); !errors.Is(err, lock.ErrUnknown) {
			t.Fatalf("release returned %v", err)
		}
		if _, err := l.TryAcquire(ctx, "a", lock.Record{}); err != nil {
			t.Fatal(err)
		}
		close(release)
		<-late.Forwarded
		wantHolders(t, s, "a")
	})
}

func TestUnknownOutcomesInTheQueue(t *testing.T) {
	eachEtcd(t, func(t *testing.T, v etcdtest.Version) {
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		p := etcdtest.MustRPCProxy(t, s)
		a := newLock(t, connect(t, at(s.Endpoint())), "")
		for name, fault := range map[string]etcdtest.Fault{
			"the reply is lost":   etcdtest.LoseReply,
			"the request is lost": etcdtest.LoseRequest,
			"the request is late": etcdtest.Delay(3500 * time.Millisecond),
			"etcd times out":      etcdtest.Fail(rpctypes.ErrGRPCTimeout),
		} {
			t.Run(name, func(t *testing.T) {
				ctx := bounded(t)
				lockFor(ctx, t, a, "a")
				b := newLock(t, connect(t, at(p.Endpoint())), "")
				p.Next(etcdtest.Writes, fault) // the entry
				p.Next(etcdtest.Writes, fault) // or, after a request that was lost, the index
				done := make(chan error, 1)
				go func() { done <- b.Acquire(ctx, "b", lock.Record{TTL: time.Hour}, nil) }()
				must.Eventually(t, patience, "b in the queue", func() bool {
					o, err := a.Overview(ctx)
					must.Do(t, err)
					return len(o.Queue) == 1
				})
				c := startWaiting(ctx, t, newLock(t, connect(t, at(s.Endpoint())), ""), "c")
				p.Clear()
				p.Next(etcdtest.Writes, fault) // the slot
				must.Do(t, a.Release(ctx, "a"))
				must.Do(t, <-done)
				wantHolders(t, s, "b")
				p.Next(etcdtest.Writes, fault)
				must.Do(t, b.Release(ctx, "b"))
				c.mustGet(t)
				must.Do(t, a.Release(ctx, "c"))
			})
		}
	})
}
