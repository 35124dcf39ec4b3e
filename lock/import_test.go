package lock_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/storetest"
)

// ofAirlock are two slots of another program, held by these hosts.
func ofAirlock(holders ...string) lock.Import {
	return lock.Import{From: "airlock", Max: 2, Holders: holders}
}

func wantDocument(t *testing.T, s lock.Store, want string) {
	t.Helper()
	if got := string(read(t, s, defaultKey).Data); got != want {
		t.Errorf("the document is %s, want %s", got, want)
	}
}

// A host that waits takes no slot that one of the other program's hosts has.
func TestImportIsOneTransaction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		l := newLock(t, s, "")
		lockFor(t.Context(), t, l, "ours")
		waits := enter(t, s, "waits", lock.Record{})
		var documents []string
		watched := &storetest.Hooked{Store: s, After: func(c *storetest.Call) {
			for _, op := range c.Ops {
				if !strings.HasPrefix(op.Key, prefix) {
					t.Errorf("it changes %s, which is not ours", op.Key)
				}
			}
			if c.Method == storetest.Commit {
				synctest.Wait() // a host that can take a slot now does
				documents = append(documents, string(read(t, s, defaultKey).Data))
			}
		}}
		result, err := newLock(t, watched, "").Import(t.Context(), ofAirlock("b", "a"))
		if taken := result.Taken(); err != nil || !result.Exists || !slices.Equal(taken, []string{"a", "b"}) {
			t.Errorf("it has taken %q, %v", taken, err)
		}
		if want := []string{`{"semaphore":-1,"max":2,"holders":["a","b","ours"]}`}; !slices.Equal(documents, want) {
			t.Errorf("the documents are %q, want %q", documents, want)
		}
		if held, r, err := l.Holder(t.Context(), "a"); !held || r.By != "airlock" || !r.Remote || r.Since.IsZero() || err != nil {
			t.Errorf("the record is %+v, %v, %v", r, held, err)
		}
		must.Do(t, l.Release(t.Context(), "a"))
		if waits.got(t) {
			t.Error("three slots are held")
		}
		must.Do(t, l.Release(t.Context(), "b"))
		if !waits.got(t) {
			t.Errorf("it waits for %v", waits.last())
		}
	})
}

// What hosts have given back since an import is not taken for them once more.
func TestImportIsDoneOnce(t *testing.T) {
	ctx := t.Context()
	s := storetest.NewMemory()
	l := newLock(t, s, "")
	plan, err := l.PlanImport(ctx, ofAirlock("a", "b"))
	if must.Do(t, err); plan.Exists || len(plan.Taken()) != 2 || read(t, s, defaultKey).ModRevision != 0 {
		t.Errorf("the plan is %+v", plan)
	}
	_, err = l.Import(ctx, ofAirlock("a", "b"))
	must.Do(t, err)
	must.Do(t, l.Release(ctx, "a"))
	var before *lock.ImportedError
	if _, err := l.Import(ctx, ofAirlock("a", "b")); !errors.As(err, &before) || before.Since.IsZero() {
		t.Errorf("the second import ends with %v", err)
	}
	if _, err := l.PlanImport(ctx, ofAirlock("a", "b")); !errors.As(err, &before) {
		t.Errorf("the second plan ends with %v", err)
	}
	wantDocument(t, s, `{"semaphore":1,"max":2,"holders":["b"]}`)
	again := ofAirlock("a", "b")
	again.Again = true
	_, err = l.Import(ctx, again)
	must.Do(t, err)
	wantDocument(t, s, `{"semaphore":0,"max":2,"holders":["a","b"]}`)

	put(t, s, prefix+"imported", "nonsense")
	if _, err := l.Import(ctx, ofAirlock("c")); !errors.As(err, &before) || !before.Since.IsZero() {
		t.Errorf("with a mark that cannot be understood it ends with %v", err)
	}
}

func TestImportWhoseReplyIsLost(t *testing.T) {
	for name, fault := range map[string]storetest.Fault{"it has happened": storetest.LoseReply, "it is late": storetest.HoldRequest} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := storetest.NewMemory()
				s.FailCommits(fault)
				result, err := newLock(t, s, "").Import(t.Context(), ofAirlock("a"))
				if err != nil || len(result.Taken()) != 1 {
					t.Errorf("it ends with %+v, %v", result, err)
				}
				s.Deliver()
				wantDocument(t, s, `{"semaphore":1,"max":2,"holders":["a"]}`)
			})
		})
	}
}

// After an unknown outcome another call, of another process, does it, or finds it done, and never does it twice.
func TestImportOfUnknownOutcomeIsMadeAgain(t *testing.T) {
	for name, arrives := range map[string]bool{"it arrives": true, "it does not": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := storetest.NewMemory()
				l := newLock(t, s, "")
				cutOff(t, s, func(ctx context.Context) error {
					_, err := l.Import(ctx, ofAirlock("a", "b"))
					return err
				})
				if arrives {
					s.Deliver()
					must.Do(t, newLock(t, s, "").Release(t.Context(), "a"))
				}
				_, err := newLock(t, s, "").Import(t.Context(), ofAirlock("a", "b"))
				var before *lock.ImportedError
				if done := errors.As(err, &before); done != arrives || err != nil && !done {
					t.Errorf("the second call ends with %v", err)
				}
				s.Deliver()
				want := `{"semaphore":0,"max":2,"holders":["a","b"]}`
				if arrives {
					want = `{"semaphore":1,"max":2,"holders":["b"]}`
				}
				wantDocument(t, s, want)
			})
		})
	}
}

// Another host was quicker: what it holds counts.
func TestImportAfterAConflict(t *testing.T) {
	s := storetest.NewMemory()
	other := storetest.Before(s, isCommit, func() { lockFor(t.Context(), t, newLock(t, s, ""), "other") })
	_, err := newLock(t, other, "").Import(t.Context(), ofAirlock("a", "b"))
	must.Do(t, err)
	wantDocument(t, s, `{"semaphore":-1,"max":2,"holders":["a","b","other"]}`)
}

func TestImportDuringAPause(t *testing.T) {
	s := storetest.NewMemory()
	l := newLock(t, s, "")
	mustPause(t)(l.Pause(t.Context(), lock.PauseInfo{By: "ann"}, 0))
	_, err := l.Import(t.Context(), ofAirlock("a"))
	must.Do(t, err)
	wantDocument(t, s, `{"semaphore":1,"max":2,"holders":["a"]}`)
}

func TestImportThatIsRefusedChangesNothing(t *testing.T) {
	for name, test := range map[string]struct{ document, id string }{
		"an id that cannot be printed":            {`{"semaphore":1,"max":1,"holders":null}`, "\x1b[31m"},
		"an empty id":                             {`{"semaphore":1,"max":1,"holders":null}`, ""},
		"a document that cannot be understood":    {"hello", "a"},
		"a document that contradicts itself":      {`{"semaphore":5,"max":1,"holders":null}`, "a"},
		"an id that is longer than a host's is":   {`{"semaphore":1,"max":1,"holders":null}`, strings.Repeat("x", 300)},
		"an id among others that cannot be taken": {`{"semaphore":1,"max":1,"holders":["b"]}`, "\n"},
	} {
		t.Run(name, func(t *testing.T) {
			s := storetest.NewMemory()
			put(t, s, defaultKey, test.document)
			l := newLock(t, s, "")
			if _, err := l.PlanImport(t.Context(), ofAirlock("b", test.id)); err == nil {
				t.Error("there is a plan")
			}
			if _, err := l.Import(t.Context(), ofAirlock("b", test.id)); err == nil || errors.Is(err, lock.ErrUnknown) {
				t.Errorf("it ends with %v", err)
			}
			wantDocument(t, s, test.document)
		})
	}
}

// More holders than a transaction of etcd has room for records.
func TestImportOfManyHolders(t *testing.T) {
	s := storetest.NewMemory()
	many := ofAirlock()
	for n := range 500 {
		many.Holders = append(many.Holders, fmt.Sprintf("host%03d", n))
	}
	result, err := newLock(t, s, "").Import(t.Context(), many)
	if must.Do(t, err); len(result.Taken()) != 500 || len(holdersIn(t, s)) != 500 {
		t.Errorf("it has taken %d slots", len(result.Taken()))
	}
	if n := len(keysIn(t, s, "holders/")); n != 100 {
		t.Errorf("there are %d records", n)
	}
}
