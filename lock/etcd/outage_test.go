package etcd_test

import (
	"fmt"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
)

func TestWaitSurvivesAKilledEtcd(t *testing.T) {
	eachEtcd(t, func(t *testing.T, v etcdtest.Version) {
		ctx := bounded(t)
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		a, b := newLock(t, connect(t, at(s.Endpoint())), ""), newLock(t, connect(t, at(s.Endpoint())), "")
		lockFor(ctx, t, a, "a")
		w := startWaiting(ctx, t, b, "b")
		s.Kill()
		w.mustReportFailure(t)
		must.Do(t, s.Restart(ctx))
		must.Do(t, a.Release(ctx, "a"))
		w.mustGet(t)
		wantHolders(t, s, "b")
	})
}

func TestWaitSurvivesAPausedEtcd(t *testing.T) {
	eachEtcd(t, func(t *testing.T, v etcdtest.Version) {
		ctx := bounded(t)
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		a, b := newLock(t, connect(t, at(s.Endpoint())), ""), newLock(t, connect(t, at(s.Endpoint())), "")
		lockFor(ctx, t, a, "a")
		w := startWaiting(ctx, t, b, "b")
		must.Do(t, s.Pause(ctx))
		w.mustReportFailure(t)
		must.Do(t, s.Resume(ctx))
		must.Do(t, a.Release(ctx, "a"))
		w.mustGet(t)
		wantHolders(t, s, "b")
	})
}

func TestLockSurvivesAKilledEtcd(t *testing.T) {
	eachEtcd(t, func(t *testing.T, v etcdtest.Version) {
		ctx := bounded(t)
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		p := etcdtest.MustRPCProxy(t, s)
		l := newLock(t, connect(t, at(p.Endpoint())), "")
		release := make(chan struct{})
		late := p.Next(etcdtest.Writes, etcdtest.Late(release))
		got := make(chan error, 1)
		go func() {
			_, err := l.TryAcquire(ctx, "a", lock.Record{})
			got <- err
		}()
		<-late.Arrived // the host knows that the slot is free and has asked for it
		s.Kill()
		close(release)
		<-late.Forwarded
		must.Do(t, s.Restart(ctx))
		must.Do(t, <-got)
		wantHolders(t, s, "a")
	})
}

func TestLockSurvivesAPausedEtcd(t *testing.T) {
	eachEtcd(t, func(t *testing.T, v etcdtest.Version) {
		ctx := bounded(t)
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		p := etcdtest.MustRPCProxy(t, s)
		l := newLock(t, connect(t, at(p.Endpoint())), "")
		release := make(chan struct{})
		late := p.Next(etcdtest.Writes, etcdtest.Late(release))
		got := make(chan error, 1)
		go func() {
			_, err := l.TryAcquire(ctx, "a", lock.Record{})
			got <- err
		}()
		<-late.Arrived
		must.Do(t, s.Pause(ctx))
		close(release) // the transaction is in the paused etcd's hands now
		again := p.Next(etcdtest.Reads, etcdtest.Delay(0))
		<-again.Arrived // and the host has given it up
		must.Do(t, s.Resume(ctx))
		must.Do(t, <-got)
		wantHolders(t, s, "a")
	})
}

func TestWaitSurvivesCompaction(t *testing.T) {
	eachEtcd(t, func(t *testing.T, v etcdtest.Version) {
		ctx := bounded(t)
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		p := etcdtest.MustProxy(t, s)
		a, b := newLock(t, connect(t, at(s.Endpoint())), ""), newLock(t, connect(t, at(p.Endpoint())), "")
		lockFor(ctx, t, a, "a")
		w := startWaiting(ctx, t, b, "b")
		p.Refuse() // the watch ends, and what it would have seen is compacted before it is back
		must.Do(t, a.Release(ctx, "a"))
		client, err := s.Client()
		must.Do(t, err)
		resp, err := client.Put(ctx, "other", "x")
		must.Do(t, err)
		_, err = client.Compact(ctx, resp.Header.Revision)
		must.Do(t, err)
		must.Do(t, p.Pass())
		w.mustGet(t)
		wantHolders(t, s, "b")
	})
}

func TestOldDocumentAndCompactionDoNotMakeAWaitSpin(t *testing.T) {
	eachEtcd(t, func(t *testing.T, v etcdtest.Version) {
		ctx := bounded(t)
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		p := etcdtest.MustRPCProxy(t, s)
		a, b := newLock(t, connect(t, at(s.Endpoint())), ""), newLock(t, connect(t, at(p.Endpoint())), "")
		lockFor(ctx, t, a, "a")
		client, err := s.Client()
		must.Do(t, err)
		var resp *clientv3.PutResponse
		for range 3 { // so that the semaphore's last change is compacted, and what came next
			resp, err = client.Put(ctx, "other", "x")
			must.Do(t, err)
		}
		_, err = client.Compact(ctx, resp.Header.Revision)
		must.Do(t, err)
		w := startWaiting(ctx, t, b, "b")
		must.Eventually(t, patience, "the watch", func() bool { return watchers(ctx, t, s.Endpoint()) == headWatches })
		must.Do(t, a.Release(ctx, "a"))
		w.mustGet(t)
		if n := p.Calls(etcdtest.Watch); n != 1 {
			t.Errorf("it took %d watches", n)
		}
	})
}

func TestPlaceInTheQueueSurvivesARestartOfEtcd(t *testing.T) {
	eachEtcd(t, func(t *testing.T, v etcdtest.Version) {
		ctx := bounded(t)
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		a := newLock(t, connect(t, at(s.Endpoint())), "")
		lockFor(ctx, t, a, "a")
		b := startWaiting(ctx, t, newLock(t, connect(t, at(s.Endpoint())), ""), "b")
		c := startWaiting(ctx, t, newLock(t, connect(t, at(s.Endpoint())), ""), "c")
		s.Kill()
		b.mustReportFailure(t)
		c.mustReportFailure(t)
		must.Do(t, s.Restart(ctx))
		must.Do(t, a.Release(ctx, "a"))
		b.mustGet(t)
		wantHolders(t, s, "b")
		must.Do(t, a.Release(ctx, "b"))
		c.mustGet(t)
	})
}

func TestQueueSurvivesCompaction(t *testing.T) {
	eachEtcd(t, func(t *testing.T, v etcdtest.Version) {
		ctx := bounded(t)
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		p := etcdtest.MustProxy(t, s)
		a := newLock(t, connect(t, at(s.Endpoint())), "")
		lockFor(ctx, t, a, "a")
		bLock := newLock(t, connect(t, at(s.Endpoint())), "")
		b := startWaiting(ctx, t, bLock, "b")
		c := startWaiting(ctx, t, newLock(t, connect(t, at(p.Endpoint())), ""), "c")
		p.Refuse() // the watch of c ends, and what it would have seen is compacted before it is back
		must.Do(t, a.Release(ctx, "a"))
		b.mustGet(t)
		must.Do(t, bLock.Release(ctx, "b"))
		client, err := s.Client()
		must.Do(t, err)
		resp, err := client.Put(ctx, "other", "x")
		must.Do(t, err)
		_, err = client.Compact(ctx, resp.Header.Revision)
		must.Do(t, err)
		must.Do(t, p.Pass())
		c.mustGet(t)
		wantHolders(t, s, "c")
	})
}

// Etcd is restored from a backup, and gives out its revisions a second time: a host in the middle of the queue
// must not continue from a revision of the first time.
func TestQueueGoesOnAfterEtcdWasRestoredFromABackup(t *testing.T) {
	for name, writes := range map[string]int{"it has yet to reach the revision": 0, "it is past the revision again": 100} {
		t.Run(name, func(t *testing.T) {
			eachEtcd(t, func(t *testing.T, v etcdtest.Version) {
				ctx := bounded(t)
				s := etcdtest.MustStart(t, v, etcdtest.Options{})
				p := etcdtest.MustProxy(t, s)
				write := func(times int) {
					client, err := s.Client()
					must.Do(t, err)
					for i := range times {
						_, err := client.Put(ctx, "other", fmt.Sprint(i))
						must.Do(t, err)
					}
				}
				a := newLock(t, connect(t, at(s.Endpoint())), "")
				lockFor(ctx, t, a, "a")
				waits := map[string]wait{}
				for _, id := range []string{"b", "c", "d"} {
					waits[id] = startWaiting(ctx, t, newLock(t, connect(t, at(p.Endpoint())), ""), id)
				}
				must.Do(t, s.Stop(ctx))
				must.Do(t, s.Save())
				must.Do(t, s.Restart(ctx))
				write(10)
				looked := func() { // at a revision that is lost later
					for _, w := range waits {
						for reported := false; !reported; {
							select {
							case err := <-w.reports:
								reported = err == nil
							case <-ctx.Done():
								t.Fatal("a pause is not reported")
							}
						}
					}
				}
				mustPause(t)(a.Pause(ctx, lock.PauseInfo{}, 0))
				looked()
				_, err := a.Resume(ctx)
				must.Do(t, err)
				looked()
				must.Do(t, p.BlackHole()) // for as short as one attempt
				s.Kill()
				must.Do(t, s.Restore())
				must.Do(t, s.Restart(ctx))
				write(writes)
				must.Do(t, p.Pass())
				must.Do(t, newLock(t, connect(t, at(s.Endpoint())), "").Release(ctx, "a"))
				for _, id := range []string{"b", "c", "d"} {
					waits[id].mustGet(t)
					must.Do(t, newLock(t, connect(t, at(s.Endpoint())), "").Release(ctx, id))
				}
			})
		})
	}
}
