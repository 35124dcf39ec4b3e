package grant_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmithd/locksmith/fleetlock"
	"github.com/locksmithd/locksmith/internal/grant"
	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/storetest"
)

func TestGrantIsASlotOfTheLock(t *testing.T) {
	bubble(t, func(t *testing.T, store *storetest.Memory) {
		s := newServer(store)
		s.serve("default", grant.Group{Max: 2, TTL: time.Hour})
		for range 2 { // the first answer is lost
			must.Do(t, s.take(t, "r"))
		}
		held, record, err := newLock(t, store).Holder(t.Context(), "r")
		must.Do(t, err)
		want := lock.Record{Hostname: "192.0.2.7", By: "fleetlock", Remote: true, Since: time.Now().UTC(), TTL: time.Hour}
		if !held || !reflect.DeepEqual(record, want) {
			t.Errorf("it holds a slot: %v, with the record\n%+v, want\n%+v", held, record, want)
		}
		if s, err := newLock(t, store).Status(t.Context()); err != nil || s.Max != 2 {
			t.Errorf("the lock is %+v, %v", s, err)
		}
		for range 2 {
			s.steady(t, "r")
			wantLock(t, store, nil, nil)
		}
		s.steady(t, "never-seen")
	})
}

// Clients that ask every five minutes and hosts that wait all the time have their turns in the order in which they
// came.
func TestClientsAndHostsTakeTurns(t *testing.T) {
	bubble(t, func(t *testing.T, store *storetest.Memory) {
		s, other := newServer(store), newServer(store)
		first := enter(t, store, "first")
		turns := make(chan string)
		client := func(id string) {
			go func() {
				for i := 0; ; i++ {
					server := s
					if i%2 == 1 {
						server = other
					}
					if server.take(t, id) == nil {
						break
					}
					time.Sleep(5*time.Minute + 30*time.Second)
				}
				turns <- id
				time.Sleep(time.Minute)
				_ = other.SteadyState(t.Context(), caller, params(id))
			}()
			synctest.Wait()
		}
		native := func(id string) {
			h := enter(t, store, id)
			go func() {
				<-h.done
				turns <- id
				time.Sleep(time.Minute)
				_ = h.lock.Release(t.Context(), id)
			}()
		}
		var want []string
		for _, n := range []string{"1", "2", "3", "4"} {
			client("client" + n)
			native("host" + n)
			want = append(want, "client"+n, "host"+n)
			time.Sleep(17 * time.Second)
		}
		time.Sleep(10 * time.Minute)
		first.release(t)
		var got []string
		for range want {
			got = append(got, <-turns)
		}
		time.Sleep(2 * time.Minute)
		if wantLock(t, store, nil, nil); !slices.Equal(got, want) {
			t.Errorf("the turns are %q, want %q", got, want)
		}
	})
}

func TestRequestIsHeldOpenUntilItsSlotIsFree(t *testing.T) {
	bubble(t, func(t *testing.T, store *storetest.Memory) {
		s := newServer(store)
		h := enter(t, store, "web-1")
		start := time.Now()
		wantKind(t, s.take(t, "r"), fleetlock.KindLockHeld, "first in the queue", "max is 1", "held by web-1 (web-1) since")
		if held := time.Since(start); held != 50*time.Second {
			t.Errorf("it was held open for %v", held)
		}
		wantLock(t, store, []string{"web-1"}, []string{"r"})
		wantKind(t, s.take(t, "r2"), fleetlock.KindLockHeld, "in the queue behind r")

		done := s.begin(t, "r")
		time.Sleep(20 * time.Second)
		start = time.Now()
		h.release(t)
		must.Do(t, <-done)
		if took := time.Since(start); took != 0 {
			t.Errorf("the hand-over took %v", took)
		}
	})
}

// A place in the queue lasts for two polls, however long requests are held open.
func TestPlaceLastsForTwoPolls(t *testing.T) {
	for _, hold := range []time.Duration{time.Second, 50 * time.Second, grant.MaxHold} {
		bubble(t, func(t *testing.T, store *storetest.Memory) {
			s := newServer(store)
			s.change(func(o *grant.Options) { o.Hold = hold })
			enter(t, store, "web-1")
			for range 10 { // its first requests were lucky, and the last one is not
				wantKind(t, s.take(t, "r"), fleetlock.KindLockHeld)
				time.Sleep(10*time.Minute + 59*time.Second)
				wantLock(t, store, []string{"web-1"}, []string{"r"})
			}
			time.Sleep(8 * time.Minute)
			wantLock(t, store, []string{"web-1"}, nil)
		})
	}
}

func TestPauseIsNamed(t *testing.T) {
	bubble(t, func(t *testing.T, store *storetest.Memory) {
		s := newServer(store)
		must.Do(t, s.take(t, "holder"))
		l := newLock(t, store)
		_, err := l.Pause(t.Context(), lock.PauseInfo{By: "alice@ops", Reason: "database migration"}, 0)
		must.Do(t, err)
		wantKind(t, s.take(t, "r"), fleetlock.KindPaused, "alice@ops", "database migration")
		must.Do(t, s.take(t, "holder")) // it may reboot still
		s.steady(t, "holder")
		done := s.begin(t, "r")
		if _, err := l.Resume(t.Context()); err != nil {
			t.Error(err)
		}
		must.Do(t, <-done)
	})
}

func TestSteadyStateEndsAWaitOfTheSameClient(t *testing.T) {
	bubble(t, func(t *testing.T, store *storetest.Memory) {
		s := newServer(store)
		h := enter(t, store, "web-1")
		done, other := s.begin(t, "r"), s.begin(t, "r2")
		s.steady(t, "r")
		wantKind(t, <-done, fleetlock.KindLockHeld, "steady-state")
		wantLock(t, store, []string{"web-1"}, []string{"r2"})
		h.release(t)
		must.Do(t, <-other)
	})
}

// The request for a slot is still on its way to the queue when the client says that it wants nothing any more.
func TestSteadyStateOutrunsARequestThatIsNotInTheQueueYet(t *testing.T) {
	bubble(t, func(t *testing.T, memory *storetest.Memory) {
		must.Do(t, newServer(memory).take(t, "holder"))
		h := newServer(memory)
		reached, goOn := make(chan struct{}), make(chan struct{})
		store := storetest.Before(memory, func(c *storetest.Call) bool { return c.Method == storetest.Grant }, func() { close(reached); <-goOn })
		s := newServer(store)
		done := s.begin(t, "r")
		<-reached
		h.steady(t, "holder")
		steady := make(chan error, 1)
		go func() { steady <- s.SteadyState(t.Context(), caller, params("r")) }()
		synctest.Wait()
		close(goOn)
		must.Do(t, <-steady)
		<-done
		wantLock(t, memory, nil, nil)
	})
}

func TestClientThatAsksAgain(t *testing.T) {
	bubble(t, func(t *testing.T, store *storetest.Memory) {
		s, other := newServer(store), newServer(store)
		h := enter(t, store, "web-1")
		first := s.begin(t, "r")
		behind := s.begin(t, "r2")
		second := s.begin(t, "r")
		wantKind(t, <-first, fleetlock.KindLockHeld, "asked again by another request")
		third := other.begin(t, "r")
		wantKind(t, <-second, fleetlock.KindLockHeld, "has asked another server")
		wantLock(t, store, []string{"web-1"}, []string{"r", "r2"})
		h.release(t)
		must.Do(t, <-third)
		wantKind(t, <-behind, fleetlock.KindLockHeld)
	})
}

func TestClientThatGoesAwayKeepsItsPlace(t *testing.T) {
	bubble(t, func(t *testing.T, store *storetest.Memory) {
		s := newServer(store)
		enter(t, store, "web-1")
		ctx, hangUp := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.PreReboot(ctx, caller, params("r")) }()
		synctest.Wait()
		hangUp()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("the request ends with %v", err)
		}
		wantLock(t, store, []string{"web-1"}, []string{"r"})
		if lines := s.logged(); len(lines) > 0 {
			t.Errorf("logged is %q", lines)
		}
	})
}

func TestStopAnswersAtOnceAndKeepsPlaces(t *testing.T) {
	bubble(t, func(t *testing.T, store *storetest.Memory) {
		s := newServer(store)
		enter(t, store, "web-1")
		done := s.begin(t, "r")
		if n := s.Waiting(); n != 1 {
			t.Errorf("%d wait", n)
		}
		start := time.Now()
		s.Stop()
		wantKind(t, <-done, fleetlock.KindUnavailable, "the server stops")
		wantKind(t, s.take(t, "r2"), fleetlock.KindUnavailable, "the server stops")
		if n := s.Waiting(); n != 0 || time.Since(start) != 0 {
			t.Errorf("%d wait after %v", n, time.Since(start))
		}
		wantLock(t, store, []string{"web-1"}, []string{"r"})
		s.steady(t, "r") // what is under way goes on
	})
}

func TestWaitsAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T, store *storetest.Memory) {
		s := newServer(store)
		s.change(func(o *grant.Options) { o.Waits = 1 })
		must.Do(t, s.take(t, "holder"))
		s.begin(t, "r")
		wantKind(t, s.take(t, "r2"), fleetlock.KindUnavailable, "as many hosts wait")
		again := s.begin(t, "r") // it takes the place of its own request
		s.steady(t, "holder")
		must.Do(t, <-again)
	})
}

func TestOnlyServedGroupsAndUsableIDs(t *testing.T) {
	bubble(t, func(t *testing.T, store *storetest.Memory) {
		s := newServer(store)
		s.serve("workers", grant.Group{Lock: "workers", Max: 1})
		wantKind(t, s.PreReboot(t.Context(), caller, fleetlock.Params{ID: "r", Group: "wrokers"}), fleetlock.KindUnknownGroup, "wrokers")
		wantKind(t, s.SteadyState(t.Context(), caller, fleetlock.Params{ID: "r", Group: ""}), fleetlock.KindUnknownGroup)
		wantKind(t, s.take(t, "a\x1bb"), fleetlock.KindBadRequest, "cannot be printed")
		if snap, err := store.Get(t.Context(), lock.Read{Key: "\x00", End: "\xff"}); err != nil || len(snap.Values) > 0 {
			t.Errorf("in the store are %v, %v", snap.Values, err)
		}
		must.Do(t, s.PreReboot(t.Context(), caller, fleetlock.Params{ID: "r", Group: "workers"}))
		must.Do(t, s.take(t, "r"))
		names, err := lock.NewGroups(store, 1).Names(t.Context())
		if must.Do(t, err); !slices.Equal(names, []string{"", "workers"}) {
			t.Errorf("the groups are %q", names)
		}
	})
}

// users is the user of a group, with the password "sesame".
type users string

func (u users) Check(_ context.Context, address, user, password string) (bool, error) {
	if address != "192.0.2.7" {
		return false, errors.New("no time for " + address)
	}
	return user == string(u) && password == "sesame", nil
}

func TestGroupIsForItsUsers(t *testing.T) {
	bubble(t, func(t *testing.T, store *storetest.Memory) {
		s := newServer(store)
		s.serve("default", grant.Group{Max: 1, Users: users("web")})
		s.serve("db", grant.Group{Lock: "db", Max: 1, Users: users("db")})
		web := fleetlock.Caller{Address: "192.0.2.7:1", User: "web", Password: "sesame"}
		db := fleetlock.Params{ID: "r", Group: "db"}
		must.Do(t, s.PreReboot(t.Context(), web, params("r")))
		wantKind(t, s.PreReboot(t.Context(), web, db), fleetlock.KindUnauthorized, "not those of a user of group db")
		wantKind(t, s.SteadyState(t.Context(), web, db), fleetlock.KindUnauthorized)
		wantKind(t, s.SteadyState(t.Context(), caller, params("r")), fleetlock.KindUnauthorized, "wants a user and a password")
		wantKind(t, s.take(t, "r"), fleetlock.KindUnauthorized)
		web.Address = "192.0.2.8:1"
		wantKind(t, s.PreReboot(t.Context(), web, params("r")), fleetlock.KindUnavailable, "no time")
		wantLock(t, store, []string{"r"}, nil)
	})
}

// The settings of groups change while requests are held open.
func TestHeldRequestsFollowTheSettings(t *testing.T) {
	bubble(t, func(t *testing.T, store *storetest.Memory) {
		s := newServer(store)
		s.serve("db", grant.Group{Lock: "db", Max: 1})
		db := func(id string) fleetlock.Params { return fleetlock.Params{ID: id, Group: "db"} }
		must.Do(t, s.PreReboot(t.Context(), caller, db("holder")))
		must.Do(t, s.take(t, "holder"))
		begin := time.Now()
		r, r2 := s.begin(t, "r"), s.begin(t, "r2")
		other := make(chan error, 1)
		go func() { other <- s.PreReboot(t.Context(), caller, db("r")) }()
		time.Sleep(20 * time.Second)
		calls := store.Calls()
		if s.Reload(); len(r)+len(r2)+len(other) > 0 || store.Calls() != calls {
			t.Error("without a change the requests begin again")
		}
		s.serve("default", grant.Group{Max: 1, TTL: time.Hour})
		s.Reload()
		synctest.Wait()
		wantLock(t, store, []string{"holder"}, []string{"r", "r2"})
		s.steady(t, "holder")
		must.Do(t, <-r)
		if _, record, err := newLock(t, store).Holder(t.Context(), "r"); err != nil || record.TTL != time.Hour {
			t.Errorf("the record is %+v, %v", record, err)
		}
		// The window of the new settings is shut.
		s.serveOnly(map[string]grant.Group{"default": {Max: 1, Window: window{first: time.Hour, open: time.Hour, begin: begin}}})
		s.Reload()
		wantKind(t, <-r2, fleetlock.KindWindowShut)
		wantKind(t, <-other, fleetlock.KindUnknownGroup)
		wantLock(t, store, []string{"r"}, nil)
		// A change does not make the hold longer.
		s.serve("default", grant.Group{Max: 1})
		begin = time.Now()
		r2 = s.begin(t, "r2")
		time.Sleep(30 * time.Second)
		s.serve("default", grant.Group{Max: 2})
		s.Reload()
		if wantKind(t, <-r2, fleetlock.KindLockHeld); time.Since(begin) != 50*time.Second {
			t.Errorf("it was held open for %v", time.Since(begin))
		}
	})
}

// slowUsers are users whose passwords are right, and take so long to check that something happens meanwhile.
type slowUsers struct{ meanwhile func(context.Context) }

func (u *slowUsers) Check(ctx context.Context, _, _, _ string) (bool, error) {
	u.meanwhile(ctx)
	return true, nil
}

// once returns users for whom f runs during the first check.
func once(f func(context.Context)) *slowUsers {
	var begun atomic.Bool
	return &slowUsers{func(ctx context.Context) {
		if !begun.Swap(true) {
			f(ctx)
		}
	}}
}

func TestSettingsThatChangeWhileAPasswordIsChecked(t *testing.T) {
	bubble(t, func(t *testing.T, store *storetest.Memory) {
		s := newServer(store)
		shut := grant.Group{Max: 1, Window: window{first: time.Hour, open: time.Hour, begin: time.Now()}}
		for kind, now := range map[string]map[string]grant.Group{
			fleetlock.KindWindowShut: {"default": shut}, fleetlock.KindUnknownGroup: {},
		} {
			s.serveOnly(map[string]grant.Group{"default": {Max: 1, Users: &slowUsers{func(context.Context) {
				s.serveOnly(now)
				s.Reload()
			}}}})
			wantKind(t, s.take(t, "r"), kind)
			wantLock(t, store, nil, nil)
		}
	})
}

// The client is up again, and its earlier request has yet to come to the queue.
func TestSteadyStateEndsARequestWhosePasswordIsChecked(t *testing.T) {
	for _, when := range []string{"at first", "again"} {
		t.Run(when, func(t *testing.T) {
			bubble(t, func(t *testing.T, store *storetest.Memory) {
				s := newServer(store)
				steady := make(chan error, 1)
				users := once(func(context.Context) {
					go func() { steady <- s.SteadyState(t.Context(), caller, params("r")) }()
					<-time.After(time.Second) // a password is checked in vain
				})
				want := []string{"holder"}
				if when == "at first" {
					want = nil
					s.serve("default", grant.Group{Max: 1, Users: users})
				} else {
					must.Do(t, s.take(t, "holder"))
				}
				done := s.begin(t, "r")
				if when == "again" {
					wantLock(t, store, []string{"holder"}, []string{"r"})
					s.serve("default", grant.Group{Max: 1, Users: users})
					s.Reload()
				}
				must.Do(t, <-steady)
				wantKind(t, <-done, fleetlock.KindLockHeld, "steady-state")
				wantLock(t, store, want, nil)
			})
		})
	}
}

func TestRequestWhosePasswordIsCheckedEndsAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, store *storetest.Memory) {
		s := newServer(store)
		s.serve("default", grant.Group{Max: 1, Users: once(func(ctx context.Context) { <-ctx.Done() })})
		begin := time.Now()
		first := s.begin(t, "r")
		must.Do(t, s.take(t, "r"))
		wantKind(t, <-first, fleetlock.KindLockHeld, "asked again")
		s.serve("default", grant.Group{Max: 1, Users: once(func(ctx context.Context) { <-ctx.Done() })})
		second := s.begin(t, "r2")
		s.Stop()
		if wantKind(t, <-second, fleetlock.KindUnavailable, "the server stops"); time.Since(begin) != 0 || s.Waiting() != 0 {
			t.Errorf("they took %v, and %d wait", time.Since(begin), s.Waiting())
		}
		wantLock(t, store, []string{"r"}, nil)
	})
}

// The hold ends while the password is checked.
func TestHoldThatEndsBeforeTheNextRound(t *testing.T) {
	bubble(t, func(t *testing.T, store *storetest.Memory) {
		s := newServer(store)
		must.Do(t, s.take(t, "holder"))
		slow := once(func(context.Context) { time.Sleep(time.Minute) })
		done := s.begin(t, "r")
		s.serve("default", grant.Group{Max: 1, Users: slow})
		s.Reload()
		wantKind(t, <-done, fleetlock.KindLockHeld, "held by holder")
		s.serve("default", grant.Group{Max: 1, Users: once(slow.meanwhile)})
		must.Do(t, s.take(t, "holder"))
		s.serve("default", grant.Group{Max: 1, Users: once(func(context.Context) { time.Sleep(time.Minute) })})
		wantKind(t, s.take(t, "r"), fleetlock.KindUnavailable, "over before there was an answer")
		for _, line := range s.logged() {
			if strings.Contains(line, "etcd cannot be used") {
				t.Errorf("logged is %s", line)
			}
		}
	})
}

// The settings change when the hold is over, or nearly so.
func TestSettingsThatChangeAtTheEndOfTheHold(t *testing.T) {
	for _, after := range []time.Duration{50*time.Second - 1, 50 * time.Second} {
		bubble(t, func(t *testing.T, memory *storetest.Memory) {
			must.Do(t, newServer(memory).take(t, "holder"))
			var slow atomic.Bool
			s := newServer(&storetest.Hooked{Store: memory, Before: func(c *storetest.Call) error {
				if slow.Load() && c.Method != storetest.Wait {
					<-c.Ctx.Done()
				}
				return c.Ctx.Err()
			}})
			done := s.begin(t, "r")
			time.Sleep(after)
			slow.Store(true)
			s.serve("default", grant.Group{Max: 1, TTL: time.Hour})
			s.Reload()
			wantKind(t, <-done, fleetlock.KindLockHeld, "held by holder")
			if lines := s.logged(); len(lines) != 1 {
				t.Errorf("logged is %q", lines)
			}
		})
	}
}

// The settings change while the transaction that takes the slot is under way.
func TestSettingsThatChangeDuringATransaction(t *testing.T) {
	bubble(t, func(t *testing.T, memory *storetest.Memory) {
		taking := storetest.Writes(lock.Root + "/holders/r")
		var again atomic.Bool
		s := newServer(&storetest.Hooked{Store: memory, Before: func(c *storetest.Call) error {
			if taking(c) && !again.Swap(true) {
				<-c.Ctx.Done()
				return c.Ctx.Err()
			}
			return nil
		}})
		done := s.begin(t, "r")
		s.serve("default", grant.Group{Max: 1, TTL: time.Hour})
		s.Reload()
		must.Do(t, <-done)
		wantLock(t, memory, []string{"r"}, nil)
		if lines := s.logged(); len(lines) != 1 {
			t.Errorf("logged is %q", lines)
		}
	})
}

// The server serves no more hosts than those that wait already, and these keep their turns when the settings change.
func TestReloadLeavesNobodyOut(t *testing.T) {
	bubble(t, func(t *testing.T, store *storetest.Memory) {
		s := newServer(store)
		s.change(func(o *grant.Options) { o.Waits = 1 })
		must.Do(t, s.take(t, "holder"))
		done := s.begin(t, "r")
		other := make(chan error, 1)
		s.serve("default", grant.Group{Max: 1, Users: once(func(context.Context) {
			go func() { other <- s.take(t, "r2") }()
			time.Sleep(time.Second)
		})})
		s.Reload()
		wantKind(t, <-other, fleetlock.KindUnavailable, "as many hosts wait")
		s.steady(t, "holder")
		must.Do(t, <-done)
	})
}

// Clients ask for groups that are not served, in a loop.
func TestRejectionsDoNotFloodTheLog(t *testing.T) {
	bubble(t, func(t *testing.T, store *storetest.Memory) {
		s := newServer(store)
		for i := range 300 {
			from := fleetlock.Caller{Address: fmt.Sprintf("192.0.2.%d:1", i%10)}
			for _, group := range []string{"wrokers", "bd", fmt.Sprint(i)} {
				wantKind(t, s.PreReboot(t.Context(), from, fleetlock.Params{ID: "r", Group: group}), fleetlock.KindUnknownGroup)
			}
		}
		typos := 0
		lines := s.logged()
		for _, line := range lines {
			if strings.Contains(line, "group=wrokers") || strings.Contains(line, "group=bd") {
				typos++
			}
		}
		if len(lines) != 20 || typos != 2 {
			t.Errorf("there are %d lines, %d of them about the two groups", len(lines), typos)
		}
	})
}

// Each line of the log says something new.
func TestLogSaysWhatChanges(t *testing.T) {
	bubble(t, func(t *testing.T, store *storetest.Memory) {
		s := newServer(store)
		for range 2 {
			must.Do(t, s.take(t, "a"))
		}
		for range 3 {
			wantKind(t, s.take(t, "b"), fleetlock.KindLockHeld)
			wantKind(t, s.PreReboot(t.Context(), caller, fleetlock.Params{ID: "c", Group: "typo"}), fleetlock.KindUnknownGroup)
		}
		for range 2 {
			s.steady(t, "a")
		}
		must.Do(t, s.take(t, "b"))
		since := time.Now().Add(-150 * time.Second).Local().Format("2006-01-02 15:04:05 MST")
		want := []string{
			`level=INFO msg="the host may reboot: it has a slot" group=default id=a address=192.0.2.7`,
			`level=INFO msg="the host may not reboot" group=default id=b address=192.0.2.7 kind=lock_held why="first in the queue; no slot is free: max is 1, held by a (192.0.2.7) since ` + since + `"`,
			`level=WARN msg="a request was rejected" group=typo id=c address=192.0.2.7 kind=unknown_group why="group typo is not served here"`,
			`level=INFO msg="the host has no slot, as it asks for" group=default id=a address=192.0.2.7`,
			`level=INFO msg="the host may reboot: it has a slot" group=default id=b address=192.0.2.7`,
		}
		if got := s.logged(); !slices.Equal(got, want) {
			t.Errorf("logged is\n%q, want\n%q", got, want)
		}
	})
}
