package lock_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/storetest"
)

// How long a slot is held does not include how long it was waited for; the entry in the queue says since when that is.
func TestSlotIsHeldSinceItWasTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := storetest.NewMemory()
		l, other := newLock(t, store, ""), newLock(t, store, "") // a lock is for one caller at a time
		began := time.Now().UTC()
		lockFor(t.Context(), t, l, "a")
		got := make(chan error)
		go func() { got <- other.Acquire(t.Context(), "b", lock.Record{Since: began}, nil) }()
		time.Sleep(time.Hour)
		o, err := l.Overview(t.Context())
		must.Do(t, err)
		if len(o.Queue) != 1 || !o.Queue[0].Since.Equal(began) {
			t.Errorf("the queue is %+v, want b since %v", o.Queue, began)
		}
		must.Do(t, l.Release(t.Context(), "a"))
		must.Do(t, <-got)
		o, err = l.Overview(t.Context())
		must.Do(t, err)
		if since := o.Holders[0].Record.Since; !since.Equal(began.Add(time.Hour)) {
			t.Errorf("b holds a slot since %v, and took it %v", since, began.Add(time.Hour))
		}
	})
}
