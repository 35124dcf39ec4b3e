package lock_test

import (
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/storetest"
)

func TestTimeToLiveEndsThoughSomebodyKeepsItsLeaseAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		defer keepLeases(s)()
		enter(t, s, "a", lock.Record{TTL: time.Hour})
		b := enter(t, s, "b", lock.Record{TTL: time.Hour})
		c := enter(t, s, "c", lock.Record{})
		time.Sleep(time.Hour - time.Second)
		if b.got(t) {
			t.Error("b has the slot before the time is over")
		}
		time.Sleep(5 * time.Minute)
		if !b.got(t) || c.got(t) {
			t.Errorf("the time-to-live of a is over, and b waits: %v", b.last())
		}
		if k := keysIn(t, s, "alive/"); !slices.Equal(k, []string{"alive/b"}) {
			t.Errorf("there is %v", k)
		}
		time.Sleep(50 * time.Minute)
		if c.got(t) {
			t.Error("c has the slot before the time is over")
		}
	})
}

// Also where the outcome of the transaction is unknown at first.
func TestHostThatFreesAnExpiredSlotIsToldWhoseItWas(t *testing.T) {
	for name, mute := range map[string]bool{"the reply arrives": false, "the reply is lost": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				memory := storetest.NewMemory()
				var lose atomic.Bool
				s := &storetest.Hooked{Store: memory, After: func(c *storetest.Call) {
					if c.Method == storetest.Commit && c.OK && lose.CompareAndSwap(true, false) {
						c.OK, c.Err = false, storetest.ErrFault
					}
				}}
				enter(t, memory, "a", lock.Record{Hostname: "web-1", Version: "4081.2.0", TTL: time.Hour})
				b := enter(t, s, "b", lock.Record{Hostname: "web-2"})
				c := enter(t, memory, "c", lock.Record{Hostname: "web-3"})
				time.Sleep(time.Hour - time.Second)
				lose.Store(mute)
				time.Sleep(5 * time.Minute)
				if !b.got(t) {
					t.Fatalf("the time-to-live of a is over, and b waits: %v", b.last())
				}
				var freed []lock.HolderInfo
				for _, w := range append(b.reports, c.reports...) {
					if w.Expired != nil {
						freed = append(freed, *w.Expired)
					}
				}
				if len(freed) != 1 || freed[0].ID != "a" || freed[0].Record.Hostname != "web-1" || freed[0].Record.Version != "4081.2.0" {
					t.Errorf("freed are %+v", freed)
				}
				c.leave()
				synctest.Wait()
			})
		})
	}
}

func TestTimeToLiveOfALockOfUnknownOutcomeIsNotCutShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		mute, sent := true, false // while mute, the store does what it is asked, but answers neither a transaction nor the reads that follow
		l := newLock(t, &storetest.Hooked{Store: s,
			Before: func(c *storetest.Call) error {
				if mute && sent && c.Method == storetest.Get {
					return storetest.ErrFault
				}
				return nil
			},
			After: func(c *storetest.Call) {
				if mute && c.Method == storetest.Commit {
					sent, c.OK, c.Err = true, false, storetest.ErrFault
				}
			},
		}, "")
		r := lock.Record{TTL: time.Hour}
		if _, err := l.TryAcquire(t.Context(), "a", r); !errors.Is(err, lock.ErrUnknown) {
			t.Fatal(err)
		}
		mute = false
		if already, err := l.TryAcquire(t.Context(), "a", r); err != nil || already {
			t.Error(already, err)
		}
		if o, err := l.Overview(t.Context()); err != nil || o.Holders[0].Expired {
			t.Errorf("the overview is %+v, %v", o, err)
		}
	})
}

func TestTimeToLive(t *testing.T) {
	const ttl = 31 * time.Minute // no periodic read falls on that time
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		s := storetest.NewMemory()
		a := enter(t, s, "a", lock.Record{Hostname: "a", TTL: ttl})
		if string(read(t, s, prefix+"holders/a").Data) == "" || !strings.Contains(string(read(t, s, prefix+"holders/a").Data), `"ttl":"31m0s"`) {
			t.Errorf("the record is %s", read(t, s, prefix+"holders/a").Data)
		}
		b := enter(t, s, "b", lock.Record{Hostname: "b"})
		c := enter(t, s, "c", lock.Record{Hostname: "c", TTL: ttl})
		time.Sleep(ttl - time.Second)
		if b.got(t) {
			t.Fatal("b has the slot before the time is over")
		}
		time.Sleep(time.Second)
		if !a.got(t) || !b.got(t) {
			t.Fatal("b has no slot")
		}
		if k := keysIn(t, s, "holders/"); !slices.Equal(k, []string{"holders/b"}) {
			t.Errorf("there are records %v", k)
		}
		if h := holdersIn(t, s); !slices.Equal(h, []string{"b"}) {
			t.Errorf("held by %v", h)
		}
		var notHeld *lock.NotHeldError
		if err := a.lock.Release(ctx, "a"); !errors.As(err, &notHeld) {
			t.Errorf("a comes back: %v", err)
		}
		time.Sleep(100 * ttl) // b has asked for none
		if c.got(t) {
			t.Fatal("c has the slot of b")
		}
		b.mustRelease(t)
		// Nobody waits: c stays, and can be released by hand.
		time.Sleep(100 * ttl)
		o, err := b.lock.Overview(ctx)
		must.Do(t, err)
		if len(o.Holders) != 1 || o.Holders[0].ID != "c" || !o.Holders[0].Expired {
			t.Errorf("the holders are %+v", o.Holders)
		}
		must.Do(t, b.lock.ReleaseRecord(ctx, o.Holders[0]))
		wantNothingLeft(t, s)
	})
}

func TestTimeToLiveStartsAgainWithEverySlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		a := enter(t, s, "a", lock.Record{TTL: time.Hour})
		time.Sleep(50 * time.Minute)
		a.mustRelease(t)
		if k := keysIn(t, s, "alive/"); len(k) > 0 {
			t.Errorf("left are %v", k)
		}
		a = enter(t, s, "a", lock.Record{TTL: time.Hour})
		b := enter(t, s, "b", lock.Record{})
		time.Sleep(55 * time.Minute)
		if b.got(t) {
			t.Fatal("b has the slot of a too early")
		}
		// An old client that came in between is not mistaken for a.
		put(t, s, defaultKey, `{"semaphore":0,"max":1,"holders":["old"]}`)
		time.Sleep(time.Hour)
		if b.got(t) {
			t.Error("b has the slot of a client without a record")
		}
		_ = a
	})
}

func TestExpiredHolderThatComesBackInTimeKeepsItsSlot(t *testing.T) {
	// Each of these happens after the holder was read and before it is removed.
	for name, change := range map[string]func(*testing.T, *storetest.Memory, *lock.Lock){
		"released and taken again": func(t *testing.T, _ *storetest.Memory, l *lock.Lock) {
			must.Do(t, l.Release(t.Context(), "a"))
			lockFor(t.Context(), t, l, "a")
		},
		"another record": func(t *testing.T, s *storetest.Memory, _ *lock.Lock) {
			put(t, s, prefix+"holders/a", `{"hostname":"a"}`)
		},
		"a sign of life": func(t *testing.T, s *storetest.Memory, _ *lock.Lock) {
			put(t, s, prefix+"alive/a", "")
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := storetest.NewMemory()
			a := enter(t, s, "a", lock.Record{TTL: time.Minute})
			time.Sleep(2 * time.Minute)
			removal := storetest.Writes(prefix + "holders/a")
			b := enter(t, storetest.Before(s, removal, func() { change(t, s, a.lock) }), "b", lock.Record{})
			if b.got(t) {
				t.Errorf("%s: b has the slot of a", name)
			}
			if h := holdersIn(t, s); !slices.Equal(h, []string{"a"}) {
				t.Errorf("%s: held by %v", name, h)
			}
		})
	}
}

func TestTimeToLiveShorterThanARebootIsRefused(t *testing.T) {
	for _, ttl := range []time.Duration{-time.Hour, 1, time.Minute - 1} {
		s := storetest.NewMemory()
		l := newLock(t, s, "")
		_, tryErr := l.TryAcquire(t.Context(), "a", lock.Record{TTL: ttl})
		for _, err := range []error{tryErr, l.Acquire(t.Context(), "a", lock.Record{TTL: ttl}, nil)} {
			if err == nil || !strings.Contains(err.Error(), ttl.String()) || !strings.Contains(err.Error(), "1m") {
				t.Errorf("a time-to-live of %v: %v", ttl, err)
			}
		}
		if k := keysIn(t, s, ""); len(k) > 0 {
			t.Errorf("there is %v", k)
		}
	}
}
