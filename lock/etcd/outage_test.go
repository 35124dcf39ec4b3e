package etcd_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
)

func TestWaitSurvivesAnOutageOfEtcd(t *testing.T) {
	t.Parallel()
	for name, outage := range map[string]struct {
		begin, end func(*etcdtest.Server, context.Context) error
	}{
		"killed": {func(s *etcdtest.Server, _ context.Context) error { s.Kill(); return nil }, (*etcdtest.Server).Restart},
		"paused": {(*etcdtest.Server).Pause, (*etcdtest.Server).Resume},
	} {
		t.Run(name, func(t *testing.T) {
			eachEtcd(t, func(t *testing.T, v etcdtest.Version) {
				ctx := bounded(t)
				s := etcdtest.MustStart(t, v, etcdtest.Options{})
				a, b := newLock(t, connect(t, at(s.Endpoint())), ""), newLock(t, connect(t, at(s.Endpoint())), "")
				lockFor(ctx, t, a, "a")
				w := startWaiting(ctx, t, b, "b")
				must.Do(t, outage.begin(s, ctx))
				w.mustReportFailure(t)
				must.Do(t, outage.end(s, ctx))
				must.Do(t, a.Release(ctx, "a"))
				w.mustGet(t)
				wantHolders(t, s, "b")
			})
		})
	}
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

// write makes etcd go on by a number of revisions, and returns the last one; 0 for none.
func write(ctx context.Context, t *testing.T, s *etcdtest.Server, times int) (revision int64) {
	t.Helper()
	client, err := s.Client()
	must.Do(t, err)
	for i := range times {
		resp, err := client.Put(ctx, "other", fmt.Sprint(i))
		must.Do(t, err)
		revision = resp.Header.Revision
	}
	return revision
}

// compact makes etcd forget what came before the last of some writes.
func compact(ctx context.Context, t *testing.T, s *etcdtest.Server, writes int) {
	t.Helper()
	client, err := s.Client()
	must.Do(t, err)
	_, err = client.Compact(ctx, write(ctx, t, s, writes))
	must.Do(t, err)
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
		compact(ctx, t, s, 1)
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
		compact(ctx, t, s, 3) // the semaphore's last change, and what came next
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
		compact(ctx, t, s, 1)
		must.Do(t, p.Pass())
		c.mustGet(t)
		wantHolders(t, s, "c")
	})
}

// Etcd is restored from a backup, and gives out its revisions a second time: a host in the middle of the queue
// must not continue from a revision of the first time.
func TestQueueGoesOnAfterEtcdWasRestoredFromABackup(t *testing.T) {
	t.Parallel()
	for name, writes := range map[string]int{"it has yet to reach the revision": 0, "it is past the revision again": 100} {
		t.Run(name, func(t *testing.T) {
			eachEtcd(t, func(t *testing.T, v etcdtest.Version) {
				ctx := bounded(t)
				s := etcdtest.MustStart(t, v, etcdtest.Options{})
				p := etcdtest.MustProxy(t, s)
				a := newLock(t, connect(t, at(s.Endpoint())), "")
				lockFor(ctx, t, a, "a")
				waits := map[string]wait{}
				for _, id := range []string{"b", "c", "d"} {
					waits[id] = startWaiting(ctx, t, newLock(t, connect(t, at(p.Endpoint())), ""), id)
				}
				must.Do(t, s.Stop(ctx))
				must.Do(t, s.Save())
				must.Do(t, s.Restart(ctx))
				write(ctx, t, s, 10)
				see := func(paused bool) { // at a revision that is lost later
					must.Eventually(t, patience, fmt.Sprint("reports; paused: ", paused), func() bool {
						for _, w := range waits {
							if (w.status.Load().Pause != nil) != paused {
								return false
							}
						}
						return true
					})
				}
				mustPause(t)(a.Pause(ctx, lock.PauseInfo{}, 0))
				see(true)
				_, err := a.Resume(ctx)
				must.Do(t, err)
				see(false)
				must.Do(t, p.BlackHole()) // for as short as one attempt
				s.Kill()
				must.Do(t, s.Restore())
				must.Do(t, s.Restart(ctx))
				write(ctx, t, s, writes)
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
