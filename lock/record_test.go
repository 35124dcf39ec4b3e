package lock_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/storetest"
)

func TestRecordNeverBlocks(t *testing.T) {
	ctx := t.Context()
	for name, record := range map[string]string{
		"broken": "{", "of another type": `{"hostname":[1]}`, "a list": `[]`, "huge": strings.Repeat("x", 1<<20), "empty": "", "stale": `{"hostname":"old"}`,
	} {
		s := storetest.NewMemory()
		key := "coreos.com/updateengine/rebootlock/holders/a"
		l := newLock(t, s, "")
		put(t, s, key, record)
		if held, _, err := l.Holder(ctx, "a"); err != nil || held {
			t.Errorf("with a record that is %s, a holds: %v, %v", name, held, err)
		}
		if already, err := l.TryAcquire(ctx, "a", lock.Record{Hostname: "new"}); err != nil || already {
			t.Errorf("with a record that is %s: %v, %v", name, already, err)
		}
		put(t, s, key, record)
		if held, r, err := l.Holder(ctx, "a"); err != nil || !held || r.Hostname == "new" {
			t.Errorf("with a record that is %s, the holder is %v, %+v, %v", name, held, r, err)
		}
		if err := l.Release(ctx, "a"); err != nil {
			t.Errorf("with a record that is %s: %v", name, err)
		}
		if v := read(t, s, key); v.ModRevision != 0 {
			t.Errorf("the record that is %s outlives the release", name)
		}
	}
}

func TestHolderWithoutRecordStillHolds(t *testing.T) {
	s := storetest.NewMemory()
	put(t, s, defaultKey, `{"semaphore":0,"max":1,"holders":["a"]}`)
	l := newLock(t, s, "")
	if held, r, err := l.Holder(t.Context(), "a"); err != nil || !held || r != (lock.Record{}) {
		t.Errorf("the holder is %v, %+v, %v", held, r, err)
	}
	if err := l.Release(t.Context(), "a"); err != nil {
		t.Error(err)
	}
}

// hostile are values that no client should write.
var hostile = map[string]string{
	"not JSON": "{", "a list": "[]", "null": "null", "empty": "", "another type": `{"hostname":[1],"ttl":3}`,
	"a megabyte": strings.Repeat("x", 1<<20), "a long name": `{"hostname":"` + strings.Repeat("x", 1<<15) + `"}`,
	"control characters": `{"hostname":"\u001b]0;x\u0007\n","by":"\u009b31m","reason":"\u202e"}`, "not UTF-8": "\xff\xfe",
	"deep nesting": strings.Repeat("[", 60_000), "deep objects": strings.Repeat(`{"a":`, 10_000),
	"an invalid time-to-live": `{"ttl":"-1h"}`, "a time out of range": `{"since":"99999-01-01T00:00:00Z"}`,
}

func TestHostileValuesBlockNobody(t *testing.T) {
	for name, value := range hostile {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				s := storetest.NewMemory()
				for _, key := range []string{"queue/a", "queue/z", "queue/%zz", "queue/", "order/z", "order/0000000000000000/z", "order/ffffffffffffffff/z",
					"holders/a", "holders/holder", "holders/z", "alive/z"} {
					put(t, s, prefix+key, value)
				}
				// With a lease they end with it.
				lease, err := s.Grant(ctx, 30*time.Second)
				must.Do(t, err)
				_, _, err = s.Commit(ctx, nil, []lock.Op{
					{Key: prefix + "queue/dying", Value: []byte(value), Lease: lease},
					{Key: prefix + "order/ffffffffffffffff/dying", Value: []byte(value), Lease: lease},
				})
				must.Do(t, err)
				holder := enter(t, s, "holder", lock.Record{Hostname: "holder", BootID: "1", TTL: time.Hour})
				a := enter(t, s, "a", lock.Record{Hostname: "a", BootID: "1"})
				b := enter(t, s, "b", lock.Record{Hostname: "b", BootID: "1"})
				time.Sleep(time.Minute)
				if !holder.got(t) {
					t.Fatalf("holder waits for %v", holder.last())
				}
				put(t, s, prefix+"holders/holder", value)
				o, err := newLock(t, s, "").Overview(ctx)
				must.Do(t, err)
				if text := fmt.Sprintf("%+v", o); len(text) > 4000 || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' }) {
					t.Errorf("the overview is %.200q", text)
				}
				if _, _, err := holder.lock.Holder(ctx, "holder"); err != nil {
					t.Error(err)
				}
				holder.mustRelease(t)
				if !a.got(t) { // its entry from long ago gives it no better place
					t.Errorf("a waits for %v", a.last())
				}
				a.mustRelease(t)
				if !b.got(t) {
					t.Errorf("b waits for %v", b.last())
				}
			})
		})
	}
}

func TestBrokenRecordsAreMarked(t *testing.T) {
	s := storetest.NewMemory()
	lease, err := s.Grant(t.Context(), time.Hour)
	must.Do(t, err)
	put(t, s, defaultKey, `{"semaphore":0,"max":2,"holders":["a","b"]}`)
	put(t, s, prefix+"holders/a", "{")
	_, _, err = s.Commit(t.Context(), nil, []lock.Op{{Key: prefix + "queue/c%2Fd", Value: []byte("{"), Lease: lease}})
	must.Do(t, err)
	o, err := newLock(t, s, "").Overview(t.Context())
	must.Do(t, err)
	if !o.Holders[0].Broken || o.Holders[1].Broken || len(o.Queue) != 0 {
		t.Errorf("the overview is %+v", o)
	}
}

func TestImpossibleTimesCountAsMissing(t *testing.T) {
	s := storetest.NewMemory()
	lease, err := s.Grant(t.Context(), time.Hour)
	must.Do(t, err)
	for _, since := range []string{"9999-12-31T23:59:59-01:00", "0000-01-01T00:00:00+01:00"} {
		document := []byte(`{"hostname":"h","since":"` + since + `","until":"` + since + `"}`)
		put(t, s, defaultKey, `{"semaphore":0,"max":1,"holders":["a"]}`)
		put(t, s, prefix+"holders/a", string(document))
		put(t, s, prefix+"pause", string(document))
		_, _, err := s.Commit(t.Context(), nil, []lock.Op{{Key: prefix + "queue/b", Value: document, Lease: lease}})
		must.Do(t, err)
		o, err := newLock(t, s, "").Overview(t.Context())
		must.Do(t, err)
		if !o.Holders[0].Record.Since.IsZero() || !o.Queue[0].Since.IsZero() || !o.Pause.Since.IsZero() || !o.Pause.Until.IsZero() {
			t.Errorf("%s is taken for a time: %+v", since, o)
		}
	}
}
