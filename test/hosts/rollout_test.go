package hosts

import (
	"context"
	"sync"
	"testing"
)

func TestThreeHostsWithEtcdOnThemRebootOneAtATimeAndKeepItsQuorum(t *testing.T) {
	inOneSuite(t)
	t.Parallel()
	f := addMembers(t, 3)
	f.start()
	// With one member down the other two still accept a write. The host stays down until then, so that a lost
	// quorum would not come back by itself.
	witness := f.oneAtATime(func(*host) error {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_, err := f.client.Put(ctx, "quorum", "is there")
		return err
	})
	w := f.write()
	f.roll()
	f.roll() // with the data on the disks
	w.stop()
	<-w.done
	witness.check(t, 6)
	t.Logf("%d writes from outside succeeded meanwhile, at most %v apart", w.writes, w.longest)
	downtimes := f.etcdDowntimes()
	if len(downtimes) != 6 {
		t.Errorf("the journals show %d downtimes of etcd, want 6", len(downtimes))
	}
	for i := 1; i < len(downtimes); i++ {
		if last, next := downtimes[i-1], downtimes[i]; next.from.Before(last.to) {
			t.Errorf("the etcd of %s is down from %v, before that of %s is back at %v", next.host.name, next.from, last.host.name, last.to)
		}
	}
	if s, err := f.read(); err != nil || s.Max != 1 || s.Free != 1 {
		t.Errorf("at the end the semaphore is %+v, %v", s, err)
	}
}

func TestWithThreeSlotsThreeHostsAreDownAtOnce(t *testing.T) {
	inOneSuite(t)
	t.Parallel()
	f := startFleet(t, 3)
	if got, want := f.hosts[0].do("locksmithctl", "set-max", "3"), "Old: 1\nNew: 3\n"; got != want {
		t.Errorf("locksmithctl set-max 3 prints %q, want %q", got, want)
	}
	// Each stays down until all are.
	var all sync.WaitGroup
	all.Add(3)
	for _, h := range f.hosts {
		h.whileDown = func() {
			all.Done()
			all.Wait()
		}
	}
	f.roll()
}
