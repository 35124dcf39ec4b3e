package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/lock"
)

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

// Contract runs the suite that every lock.Store must pass. open returns a store; those of one suite
// may share their data.
func Contract(t *testing.T, open func(*testing.T) lock.Store) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, lock.Store)
	}{
		{"a key that does not exist has revision zero", missingKey},
		{"several keys are read at one revision", oneRevision},
		{"a transaction happens as a whole", wholeTransaction},
		{"a transaction whose condition fails changes nothing and says what is there", failedCondition},
		{"a key is created only once", createdOnce},
		{"an empty value is not a missing key", emptyValue},
		{"any bytes and a megabyte fit", anyBytes},
		{"a wait returns what the key changes to", waitForChange},
		{"a wait returns at once what changed before it began", waitForPast},
		{"a wait sees a deletion", waitForDeletion},
		{"a wait does not return for another key", waitForOther},
		{"a wait for several keys returns for each of them", waitForSeveral},
		{"a wait for a range returns for its keys and no others", waitForRange},
		{"a wait does not lose a change of another key", waitKeepsOthers},
		{"a wait from a revision that is yet to come has to read", waitForFuture},
		{"a wait ends with its context", waitEnds},
		{"ranges are read in order and no further than the limit", ranges},
		{"the newest of those created before are found", createdBefore},
		{"a value tells when it was created and changed, and its lease", provenance},
		{"a transaction can demand that a range is empty", emptyRange},
		{"a transaction reads what it has made of the keys", readAfterWrite},
		{"what has a lease goes with it", leaseRunsOut},
		{"a lease that is kept alive goes on", leaseKeptAlive},
		{"a lease that is revoked is gone", leaseRevoked},
		{"a put without a lease frees the key of it", leaseDropped},
		{"an ended context is the error of every call", endedContext},
		{"lock, status and unlock leave the documents that other clients know", documents},
		{"a holder locks again and a stranger cannot unlock", holders},
		{"a release wakes a waiting host", handOver},
		{"hosts have their turn in the order in which they came", turns},
		{"a pause stops everyone until it is over", pauses},
		{"contenders never hold more than max slots", contenders},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

// key is one that this test has for itself.
func key(t *testing.T, name string) string {
	return "coreos.com/updateengine/rebootlock/" + url.QueryEscape(t.Name()) + "/" + name
}

func get(t *testing.T, s lock.Store, keys ...string) lock.Snapshot {
	t.Helper()
	var reads []lock.Read
	for _, k := range keys {
		reads = append(reads, lock.Read{Key: k})
	}
	snap, err := s.Get(t.Context(), reads...)
	if err != nil {
		t.Fatal(err)
	}
	return snap
}

func commit(t *testing.T, s lock.Store, conds []lock.Cond, ops ...lock.Op) (bool, lock.Snapshot) {
	t.Helper()
	ok, now, err := s.Commit(t.Context(), conds, ops)
	if err != nil {
		t.Fatal(err)
	}
	return ok, now
}

func mustCommit(t *testing.T, s lock.Store, conds []lock.Cond, ops ...lock.Op) {
	t.Helper()
	if ok, now := commit(t, s, conds, ops...); !ok {
		t.Fatalf("the transaction failed; there is %v", now)
	}
}

func missingKey(t *testing.T, s lock.Store) {
	k := key(t, "a")
	snap := get(t, s, k)
	if v := snap.Values[k]; v.ModRevision != 0 || v.Data != nil {
		t.Errorf("a missing key is %v", v)
	}
	if snap.Revision <= 0 {
		t.Errorf("the store is at revision %d", snap.Revision)
	}
}

func oneRevision(t *testing.T, s lock.Store) {
	a, b, c := key(t, "a"), key(t, "b"), key(t, "c")
	mustCommit(t, s, nil, lock.Op{Key: a, Value: []byte("1")})
	mustCommit(t, s, nil, lock.Op{Key: b, Value: []byte("2")})
	snap := get(t, s, a, b, c)
	va, vb := snap.Values[a], snap.Values[b]
	if string(va.Data) != "1" || string(vb.Data) != "2" || len(snap.Values) != 2 {
		t.Errorf("read %v", snap)
	}
	if va.ModRevision >= vb.ModRevision || vb.ModRevision > snap.Revision {
		t.Errorf("revisions are %d, %d and %d in all", va.ModRevision, vb.ModRevision, snap.Revision)
	}
}

func wholeTransaction(t *testing.T, s lock.Store) {
	a, b := key(t, "a"), key(t, "b")
	mustCommit(t, s, nil, lock.Op{Key: a, Value: []byte("1")})
	was := get(t, s, a).Values[a]
	mustCommit(t, s, []lock.Cond{{Key: a, ModRevision: was.ModRevision}, {Key: b}},
		lock.Op{Key: a, Delete: true}, lock.Op{Key: b, Value: []byte("2")})
	snap := get(t, s, a, b)
	if snap.Values[a].ModRevision != 0 || string(snap.Values[b].Data) != "2" {
		t.Errorf("there is %v", snap)
	}
}

func failedCondition(t *testing.T, s lock.Store) {
	a, b := key(t, "a"), key(t, "b")
	mustCommit(t, s, nil, lock.Op{Key: a, Value: []byte("1")})
	first := get(t, s, a).Values[a]
	mustCommit(t, s, nil, lock.Op{Key: a, Value: []byte("2")})
	before := get(t, s, a, b)
	ok, now := commit(t, s, []lock.Cond{{Key: b}, {Key: a, ModRevision: first.ModRevision}},
		lock.Op{Key: a, Value: []byte("3")}, lock.Op{Key: b, Value: []byte("3")})
	if ok {
		t.Error("it happened")
	}
	for _, snap := range []lock.Snapshot{now, get(t, s, a, b)} {
		if v := snap.Values[a]; string(v.Data) != "2" || v.ModRevision != before.Values[a].ModRevision || snap.Values[b].ModRevision != 0 {
			t.Errorf("there is %v", snap)
		}
		if snap.Revision < before.Revision {
			t.Errorf("it is at revision %d, which was at %d before", snap.Revision, before.Revision)
		}
	}
}

func createdOnce(t *testing.T, s lock.Store) {
	k := key(t, "a")
	for i := range 2 {
		ok, _ := commit(t, s, []lock.Cond{{Key: k}}, lock.Op{Key: k, Value: []byte("1")})
		if ok != (i == 0) {
			t.Errorf("time %d: happened is %v", i+1, ok)
		}
	}
}

func emptyValue(t *testing.T, s lock.Store) {
	k := key(t, "a")
	mustCommit(t, s, nil, lock.Op{Key: k})
	if v := get(t, s, k).Values[k]; v.ModRevision == 0 || len(v.Data) != 0 {
		t.Errorf("an empty key is %v", v)
	}
}

func anyBytes(t *testing.T, s lock.Store) {
	k := key(t, "..")
	value := bytes.Repeat([]byte{0, 0xff, '\n', '"'}, 1<<18)
	mustCommit(t, s, nil, lock.Op{Key: k, Value: value})
	if v := get(t, s, k).Values[k]; !bytes.Equal(v.Data, value) {
		t.Errorf("read %d bytes of %d, or others", len(v.Data), len(value))
	}
}

func waitForChange(t *testing.T, s lock.Store) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	k := key(t, "a")
	snap := get(t, s, k)
	for i := range 3 {
		want := fmt.Sprint(i)
		done := make(chan error, 1)
		go func() {
			// The wait may begin before or after this: it must not matter.
			_, _, err := s.Commit(ctx, nil, []lock.Op{{Key: k, Value: []byte(want)}})
			done <- err
		}()
		next, err := s.Wait(ctx, lock.Watch{Key: k, After: snap.Revision})
		if err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		now := get(t, s, k)
		if v := next.Values[k]; string(v.Data) != want || v.ModRevision != now.Values[k].ModRevision {
			t.Errorf("wait returned %v; there is %v", next, now)
		}
		if next.Revision <= snap.Revision || next.Revision > now.Revision {
			t.Errorf("wait returned revision %d, after %d and now %d", next.Revision, snap.Revision, now.Revision)
		}
		snap = next
	}
}

func waitForPast(t *testing.T, s lock.Store) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	k := key(t, "a")
	before := get(t, s, k)
	mustCommit(t, s, nil, lock.Op{Key: k, Value: []byte("1")})
	snap, err := s.Wait(ctx, lock.Watch{Key: k, After: before.Revision})
	if err != nil || string(snap.Values[k].Data) != "1" {
		t.Errorf("wait returned %v, %v", snap, err)
	}
}

func waitForDeletion(t *testing.T, s lock.Store) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	k := key(t, "a")
	mustCommit(t, s, nil, lock.Op{Key: k, Value: []byte("1")})
	before := get(t, s, k)
	mustCommit(t, s, nil, lock.Op{Key: k, Delete: true})
	snap, err := s.Wait(ctx, lock.Watch{Key: k, After: before.Revision})
	if err != nil || snap.Values[k].ModRevision != 0 || snap.Revision <= before.Revision {
		t.Errorf("wait after %d returned %v, %v", before.Revision, snap, err)
	}
}

func waitForOther(t *testing.T, s lock.Store) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	k, other := key(t, "a"), key(t, "a/b")
	before := get(t, s, k)
	mustCommit(t, s, nil, lock.Op{Key: other, Value: []byte("1")})
	mustCommit(t, s, nil, lock.Op{Key: k, Value: []byte("2")})
	snap, err := s.Wait(ctx, lock.Watch{Key: k, After: before.Revision})
	if err != nil || string(snap.Values[k].Data) != "2" || len(snap.Values) != 1 {
		t.Errorf("wait returned %v, %v", snap, err)
	}
}

func waitForFuture(t *testing.T, s lock.Store) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	k := key(t, "a")
	now := get(t, s, k).Revision
	snap, err := s.Wait(ctx, watch(k, now), watch(key(t, "b"), now+1000))
	if err != nil || snap.Values != nil {
		t.Errorf("wait returned %v, %v", snap, err)
	}
}

func watch(k string, after int64) lock.Watch { return lock.Watch{Key: k, After: after} }

func waitForSeveral(t *testing.T, s lock.Store) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	a, b, c := key(t, "a"), key(t, "b"), key(t, "c")
	mustCommit(t, s, nil, lock.Op{Key: c})
	for _, op := range []lock.Op{{Key: a, Value: []byte("1")}, {Key: b, Value: []byte("2")}, {Key: c, Delete: true}} {
		now := get(t, s, a).Revision
		go func() { _, _, _ = s.Commit(ctx, nil, []lock.Op{op}) }() // seen below
		snap, err := s.Wait(ctx, watch(a, now), watch(b, now), watch(c, now))
		v, ok := snap.Values[op.Key]
		if err != nil || !ok || string(v.Data) != string(op.Value) || op.Delete != (v.ModRevision == 0) || len(snap.Values) != 1 || snap.Revision <= now {
			t.Errorf("wait for %v returned %v, %v", op, snap, err)
		}
	}
}

func waitForRange(t *testing.T, s lock.Store) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	now := get(t, s, "x").Revision
	for _, k := range []string{key(t, "a"), key(t, "c"), key(t, "b/x")} {
		mustCommit(t, s, nil, lock.Op{Key: k, Value: []byte("1")})
	}
	snap, err := s.Wait(ctx, lock.Watch{Key: key(t, "b"), End: key(t, "c"), After: now})
	if err != nil || len(snap.Values) != 1 || string(snap.Values[key(t, "b/x")].Data) != "1" {
		t.Errorf("wait returned %v, %v", snap, err)
	}
	mustCommit(t, s, nil, lock.Op{Key: key(t, "b/x"), Delete: true})
	next, err := s.Wait(ctx, lock.Watch{Key: key(t, "b"), End: key(t, "c"), After: snap.Revision})
	if v, ok := next.Values[key(t, "b/x")]; err != nil || !ok || v.ModRevision != 0 || next.Revision <= snap.Revision {
		t.Errorf("wait returned %v, %v", next, err)
	}
}

func waitKeepsOthers(t *testing.T, s lock.Store) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	a, b := key(t, "a"), key(t, "b")
	now := get(t, s, a).Revision
	mustCommit(t, s, nil, lock.Op{Key: a, Value: []byte("1")}, lock.Op{Key: b, Value: []byte("2")})
	after := map[string]int64{a: now, b: now}
	for len(after) > 0 {
		var watches []lock.Watch
		for k, r := range after {
			watches = append(watches, watch(k, r))
		}
		snap, err := s.Wait(ctx, watches...)
		if err != nil {
			t.Fatal(err)
		}
		for k := range snap.Values {
			delete(after, k)
		}
	}
}

func ranges(t *testing.T, s lock.Store) {
	for _, name := range []string{"q/c", "q/a", "q", "q0", "q/b", "p/z"} {
		mustCommit(t, s, nil, lock.Op{Key: key(t, name), Value: []byte(name)})
	}
	read := func(r lock.Read) string {
		t.Helper()
		snap, err := s.Get(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		var found []string
		for k, v := range snap.Values {
			found = append(found, strings.TrimPrefix(k, key(t, ""))+"="+string(v.Data))
		}
		slices.Sort(found)
		return strings.Join(found, " ")
	}
	from, end := key(t, "q/"), key(t, "q0")
	for _, test := range []struct {
		read lock.Read
		want string
	}{
		{lock.Read{Key: from, End: end}, "q/a=q/a q/b=q/b q/c=q/c"},
		{lock.Read{Key: from, End: end, Limit: 2}, "q/a=q/a q/b=q/b"},
		{lock.Read{Key: key(t, "q/a") + "\x00", End: end, Limit: 1}, "q/b=q/b"},
		{lock.Read{Key: from, End: end, KeysOnly: true}, "q/a= q/b= q/c="},
		{lock.Read{Key: key(t, "q")}, "q=q"},
		{lock.Read{Key: key(t, "q/c") + "\x00", End: end}, ""},
	} {
		if got := read(test.read); got != test.want {
			t.Errorf("%+v reads %s, want %s", test.read, got, test.want)
		}
	}
	snap, err := s.Get(t.Context(), lock.Read{Key: key(t, "q/a")}, lock.Read{Key: from, End: end, KeysOnly: true})
	if err != nil || len(snap.Values) != 3 || string(snap.Values[key(t, "q/a")].Data) != "q/a" {
		t.Errorf("what is read twice is %v, %v", snap, err)
	}
}

func createdBefore(t *testing.T, s lock.Store) {
	names := []string{"q/c", "q/a", "q/d", "q/b"}
	for _, name := range names {
		mustCommit(t, s, nil, lock.Op{Key: key(t, name)})
	}
	mustCommit(t, s, nil, lock.Op{Key: key(t, "q/c"), Value: []byte("changed")}) // which makes it no younger
	for i, name := range names {
		created := get(t, s, key(t, name)).Values[key(t, name)].CreateRevision
		snap, err := s.Get(t.Context(), lock.Read{Key: key(t, "q/"), End: key(t, "q0"), KeysOnly: true, CreatedBefore: created, Limit: 1})
		if err != nil || len(snap.Values) != min(i, 1) {
			t.Errorf("before %s there is %v, %v", name, snap, err)
		}
		if i > 0 && snap.Values[key(t, names[i-1])].CreateRevision == 0 {
			t.Errorf("right before %s there is %v", name, snap)
		}
	}
}

func grant(t *testing.T, s lock.Store, ttl time.Duration) int64 {
	t.Helper()
	lease, err := s.Grant(t.Context(), ttl)
	if err != nil || lease == 0 {
		t.Fatal(lease, err)
	}
	return lease
}

func provenance(t *testing.T, s lock.Store) {
	k := key(t, "a")
	lease := grant(t, s, time.Hour)
	_, first := commit(t, s, []lock.Cond{{Key: k}}, lock.Op{Key: k, Value: []byte("1"), Lease: lease})
	v := get(t, s, k).Values[k]
	if v.CreateRevision != first.Revision || v.ModRevision != first.Revision || v.Lease != lease {
		t.Errorf("created at %d with lease %d it is %+v", first.Revision, lease, v)
	}
	other := grant(t, s, time.Hour)
	_, second := commit(t, s, nil, lock.Op{Key: k, Value: []byte("2"), Lease: other})
	v = get(t, s, k).Values[k]
	if v.CreateRevision != first.Revision || v.ModRevision != second.Revision || v.Lease != other {
		t.Errorf("changed at %d with lease %d it is %+v", second.Revision, other, v)
	}
	mustCommit(t, s, nil, lock.Op{Key: k, Delete: true})
	_, third := commit(t, s, nil, lock.Op{Key: k})
	if v = get(t, s, k).Values[k]; v.CreateRevision != third.Revision || v.Lease != 0 {
		t.Errorf("created again at %d it is %+v", third.Revision, v)
	}
}

func emptyRange(t *testing.T, s lock.Store) {
	empty := []lock.Cond{{Key: key(t, "q/"), End: key(t, "q0")}}
	for _, name := range []string{"q", "q0", "p"} {
		mustCommit(t, s, empty, lock.Op{Key: key(t, name)})
	}
	mustCommit(t, s, empty, lock.Op{Key: key(t, "q/x")})
	if ok, now := commit(t, s, empty, lock.Op{Key: key(t, "q/y")}); ok || len(now.Values) != 0 {
		t.Errorf("the range is not empty, and it is %v, %v", ok, now)
	}
	mustCommit(t, s, nil, lock.Op{Key: key(t, "q/x"), Delete: true})
	mustCommit(t, s, empty)
}

func readAfterWrite(t *testing.T, s lock.Store) {
	a, b := key(t, "a"), key(t, "b")
	mustCommit(t, s, nil, lock.Op{Key: b, Value: []byte("1")})
	for i, want := range []bool{true, false} {
		ok, now, err := s.Commit(t.Context(), []lock.Cond{{Key: a}}, []lock.Op{{Key: a, Value: []byte("2")}}, lock.Read{Key: b}, lock.Read{Key: a})
		if err != nil || ok != want {
			t.Fatalf("time %d: %v, %v", i, ok, err)
		}
		if string(now.Values[a].Data) != "2" || string(now.Values[b].Data) != "1" || now.Revision < now.Values[a].ModRevision {
			t.Errorf("time %d: there is %v", i, now)
		}
	}
}

func leaseRunsOut(t *testing.T, s lock.Store) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	a, b := key(t, "a"), key(t, "b")
	lease := grant(t, s, time.Second)
	_, made := commit(t, s, nil, lock.Op{Key: a, Lease: lease}, lock.Op{Key: b, Lease: lease})
	snap, err := s.Wait(ctx, watch(a, made.Revision))
	if err != nil || snap.Values[a].ModRevision != 0 {
		t.Fatalf("wait returned %v, %v", snap, err)
	}
	if snap := get(t, s, a, b); len(snap.Values) != 0 {
		t.Errorf("there is %v", snap)
	}
	if err := s.KeepAlive(ctx, lease); !errors.Is(err, lock.ErrNoLease) {
		t.Errorf("it can be kept alive: %v", err)
	}
	_, _, err = s.Commit(ctx, nil, []lock.Op{{Key: a, Lease: lease}})
	if !errors.Is(err, lock.ErrNoLease) || get(t, s, a).Values[a].ModRevision != 0 {
		t.Errorf("it can be used: %v", err)
	}
	if err := s.Revoke(ctx, lease); err != nil {
		t.Errorf("it cannot be revoked: %v", err)
	}
}

func leaseKeptAlive(t *testing.T, s lock.Store) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	a, b := key(t, "a"), key(t, "b")
	kept := grant(t, s, 5*time.Second)
	mustCommit(t, s, nil, lock.Op{Key: a, Lease: kept})
	// As long as two others live, one after another.
	for range 2 {
		_, made := commit(t, s, nil, lock.Op{Key: b, Lease: grant(t, s, 4*time.Second)})
		gone := make(chan error, 1)
		go func() {
			_, err := s.Wait(ctx, watch(b, made.Revision))
			gone <- err
		}()
		tick := time.NewTicker(300 * time.Millisecond)
		for alive := true; alive; {
			select {
			case <-tick.C:
				if err := s.KeepAlive(ctx, kept); err != nil {
					t.Fatal(err)
				}
			case err := <-gone:
				if err != nil {
					t.Fatal(err)
				}
				alive = false
			}
		}
		tick.Stop()
	}
	if get(t, s, a).Values[a].Lease != kept {
		t.Error("it is gone")
	}
}

func leaseRevoked(t *testing.T, s lock.Store) {
	k := key(t, "a")
	lease := grant(t, s, time.Hour)
	mustCommit(t, s, nil, lock.Op{Key: k, Lease: lease})
	for range 2 {
		if err := s.Revoke(t.Context(), lease); err != nil {
			t.Fatal(err)
		}
		if snap := get(t, s, k); len(snap.Values) != 0 {
			t.Errorf("there is %v", snap)
		}
	}
}

func leaseDropped(t *testing.T, s lock.Store) {
	k := key(t, "a")
	lease := grant(t, s, time.Hour)
	mustCommit(t, s, nil, lock.Op{Key: k, Lease: lease})
	mustCommit(t, s, nil, lock.Op{Key: k})
	if err := s.Revoke(t.Context(), lease); err != nil {
		t.Fatal(err)
	}
	if v := get(t, s, k).Values[k]; v.ModRevision == 0 || v.Lease != 0 {
		t.Errorf("it is %+v", v)
	}
}

func waitEnds(t *testing.T, s lock.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	k := key(t, "a")
	before := get(t, s, k)
	done := make(chan error, 1)
	go func() {
		_, err := s.Wait(ctx, lock.Watch{Key: k, After: before.Revision})
		done <- err
	}()
	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("wait returned %v", err)
		}
	case <-time.After(patience):
		t.Fatal("the wait goes on")
	}
}

func endedContext(t *testing.T, s lock.Store) {
	lease := grant(t, s, time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, getErr := s.Get(ctx, lock.Read{Key: key(t, "a")})
	_, _, commitErr := s.Commit(ctx, nil, []lock.Op{{Key: key(t, "a")}})
	_, waitErr := s.Wait(ctx, lock.Watch{Key: key(t, "a"), After: 1})
	_, grantErr := s.Grant(ctx, time.Hour)
	keepErr := s.KeepAlive(ctx, lease)
	revokeErr := s.Revoke(ctx, lease)
	for call, err := range map[string]error{
		"Get": getErr, "Commit": commitErr, "Wait": waitErr, "Grant": grantErr, "KeepAlive": keepErr, "Revoke": revokeErr,
	} {
		if !errors.Is(err, context.Canceled) || errors.Is(err, lock.ErrRefused) || errors.Is(err, lock.ErrNoLease) {
			t.Errorf("the error of %s is %v", call, err)
		}
	}
	if err := s.KeepAlive(t.Context(), lease); err != nil {
		t.Errorf("after that the lease has %v", err)
	}
}

// newLock returns a lock of the group that this test has for itself, and its semaphore's key.
func newLock(t *testing.T, s lock.Store) (*lock.Lock, string) {
	t.Helper()
	l, err := lock.New(s, t.Name(), 1)
	if err != nil {
		t.Fatal(err)
	}
	return l, "coreos.com/updateengine/rebootlock/groups/" + url.QueryEscape(t.Name()) + "/semaphore"
}

func documents(t *testing.T, s lock.Store) {
	l, k := newLock(t, s)
	ctx := t.Context()
	step := func(what string, err error, want string) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if data := string(get(t, s, k).Values[k].Data); data != want {
			t.Errorf("after %s the document is %s, want %s", what, data, want)
		}
	}
	_, err := l.Status(ctx)
	step("status", err, `{"semaphore":1,"max":1,"holders":null}`)
	_, _, err = l.SetMax(ctx, 3)
	step("set-max", err, `{"semaphore":3,"max":3,"holders":null}`)
	_, err = l.TryAcquire(ctx, "b", lock.Record{})
	step("lock b", err, `{"semaphore":2,"max":3,"holders":["b"]}`)
	_, err = l.TryAcquire(ctx, "a", lock.Record{})
	step("lock a", err, `{"semaphore":1,"max":3,"holders":["a","b"]}`)
	_, _, err = l.SetMax(ctx, 1)
	step("set-max below the holders", err, `{"semaphore":-1,"max":1,"holders":["a","b"]}`)
	err = l.Release(ctx, "b")
	step("unlock b", err, `{"semaphore":0,"max":1,"holders":["a"]}`)
	err = l.Release(ctx, "a")
	step("unlock a", err, `{"semaphore":1,"max":1,"holders":null}`)
}

func holders(t *testing.T, s lock.Store) {
	l, _ := newLock(t, s)
	ctx := t.Context()
	record := lock.Record{Hostname: "h", BootID: "b", Hardware: "w", Token: "t", Since: time.Unix(1700000000, 0).UTC(), By: "test", Version: "1"}
	for i := range 2 {
		already, err := l.TryAcquire(ctx, "a", record)
		if err != nil || already != (i > 0) {
			t.Fatalf("lock %d: already is %v, %v", i+1, already, err)
		}
		record.Hostname = "other" // the first one stays
	}
	held, r, err := l.Holder(ctx, "a")
	record.Hostname = "h"
	if err != nil || !held || r != record {
		t.Errorf("holder is %v, %+v, %v", held, r, err)
	}
	var full *lock.FullError
	if _, err := l.TryAcquire(ctx, "b", record); !errors.As(err, &full) || !slices.Equal(full.Semaphore.Holders, []string{"a"}) {
		t.Errorf("a second lock returned %v", err)
	}
	var notHeld *lock.NotHeldError
	if err := l.Release(ctx, "b"); !errors.As(err, &notHeld) || !slices.Equal(notHeld.Semaphore.Holders, []string{"a"}) {
		t.Errorf("unlock of a stranger returned %v", err)
	}
	if held, r, err := l.Holder(ctx, "b"); err != nil || held || r != (lock.Record{}) {
		t.Errorf("a stranger is holder: %v, %+v, %v", held, r, err)
	}
	if err := l.Release(ctx, "a"); err != nil {
		t.Error(err)
	}
	if held, r, err := l.Holder(ctx, "a"); err != nil || held || r != (lock.Record{}) {
		t.Errorf("holder after unlock is %v, %+v, %v", held, r, err)
	}
}

func handOver(t *testing.T, s lock.Store) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	a, _ := newLock(t, s)
	b, _ := newLock(t, s)
	if _, err := a.TryAcquire(ctx, "a", lock.Record{}); err != nil {
		t.Fatal(err)
	}
	waits := make(chan lock.Semaphore, 1)
	got := make(chan error, 1)
	go func() {
		got <- b.Acquire(ctx, "b", lock.Record{}, func(w lock.WaitStatus, err error) {
			if err != nil {
				t.Error(err)
			}
			waits <- w.Semaphore
		})
	}()
	select {
	case s := <-waits:
		if !slices.Equal(s.Holders, []string{"a"}) {
			t.Errorf("b waits for %v", s.Holders)
		}
	case err := <-got:
		t.Fatalf("acquire did not wait: %v", err)
	}
	if err := a.Release(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Fatal(err)
	}
}

// begin has id wait for a slot until the first report.
func begin(ctx context.Context, t *testing.T, l *lock.Lock, id string) chan error {
	t.Helper()
	reported, done := make(chan struct{}), make(chan error, 1)
	once := sync.OnceFunc(func() { close(reported) })
	go func() { done <- l.Acquire(ctx, id, lock.Record{Hostname: id}, func(lock.WaitStatus, error) { once() }) }()
	select {
	case <-reported:
	case err := <-done:
		t.Fatalf("%s did not wait: %v", id, err)
	}
	return done
}

func turns(t *testing.T, s lock.Store) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	holder, _ := newLock(t, s)
	if _, err := holder.TryAcquire(ctx, "holder", lock.Record{}); err != nil {
		t.Fatal(err)
	}
	ids := []string{"c", "a/b", "e", "b", "d"}
	leaves := 2 // e leaves
	var done []chan error
	leaving, leave := context.WithCancel(ctx)
	for i, id := range ids {
		l, _ := newLock(t, s)
		if i == leaves {
			done = append(done, begin(leaving, t, l, id))
		} else {
			done = append(done, begin(ctx, t, l, id))
		}
	}
	leave()
	if err := <-done[leaves]; !errors.Is(err, context.Canceled) {
		t.Errorf("it leaves with %v", err)
	}
	o, err := holder.Overview(ctx)
	if err != nil || len(o.Queue) != 4 || o.Queue[1].ID != "a/b" || o.Queue[2].ID != "b" {
		t.Errorf("the overview is %+v, %v", o, err)
	}
	last := "holder"
	for i, id := range ids {
		if i == leaves {
			continue
		}
		if err := holder.Release(ctx, last); err != nil {
			t.Fatal(err)
		}
		if err := <-done[i]; err != nil {
			t.Fatal(err)
		}
		o, err := holder.Overview(ctx)
		if err != nil || !slices.Equal(o.Semaphore.Holders, []string{id}) {
			t.Errorf("after the release of %s held by %v, not %s: %v", last, o.Semaphore.Holders, id, err)
		}
		last = id
	}
	o, err = holder.Overview(ctx)
	if err != nil || len(o.Queue) != 0 {
		t.Errorf("the overview is %+v, %v", o, err)
	}
}

func pauses(t *testing.T, s lock.Store) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	a, _ := newLock(t, s)
	b, _ := newLock(t, s)
	var paused *lock.PausedError
	if _, err := a.Pause(ctx, lock.PauseInfo{By: "me", Reason: "why"}, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := a.TryAcquire(ctx, "a", lock.Record{}); !errors.As(err, &paused) || paused.Pause.By != "me" {
		t.Errorf("lock during the pause returned %v", err)
	}
	got := begin(ctx, t, b, "b")
	if was, err := a.Resume(ctx); err != nil || was == nil || was.Reason != "why" {
		t.Errorf("resume returned %+v, %v", was, err)
	}
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	if err := b.Release(ctx, "b"); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Pause(ctx, lock.PauseInfo{}, time.Second); err != nil {
		t.Fatal(err)
	}
	if err := b.Acquire(ctx, "b", lock.Record{}, nil); err != nil { // once that is over
		t.Fatal(err)
	}
}

func contenders(t *testing.T, s lock.Store) {
	const max, hosts, rounds = 2, 6, 4
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	l, k := newLock(t, s)
	if _, _, err := l.SetMax(ctx, max); err != nil {
		t.Fatal(err)
	}
	var inside atomic.Int32
	enter := func() {
		if n := inside.Add(1); n > max {
			t.Errorf("%d hold a slot, of %d", n, max)
		}
	}
	leave := func() { inside.Add(-1) } // before the release, as another may have the slot right after
	var wg sync.WaitGroup
	for i := range hosts {
		id := fmt.Sprintf("host%d", i)
		wg.Go(func() {
			for range rounds {
				mine, _ := newLock(t, s)
				if err := mine.Acquire(ctx, id, lock.Record{}, nil); err != nil {
					t.Error(err)
					return
				}
				enter()
				runtime.Gosched()
				leave()
				if err := mine.Release(ctx, id); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for i := range 2 {
		id := fmt.Sprintf("older%d", i)
		wg.Go(func() {
			for range rounds {
				if err := oldClient(ctx, s, k, id, true); err != nil {
					t.Error(err)
					return
				}
				enter()
				runtime.Gosched()
				leave()
				if err := oldClient(ctx, s, k, id, false); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if sem, err := l.Status(ctx); err != nil || sem.Free != max || len(sem.Holders) != 0 {
		t.Errorf("at the end the semaphore is %+v, %v", sem, err)
	}
}

// oldClient takes or frees a slot, trying until it can, like a client that knows the document and
// nothing else.
func oldClient(ctx context.Context, s lock.Store, key, id string, take bool) error {
	for ctx.Err() == nil {
		snap, err := s.Get(ctx, lock.Read{Key: key})
		if err != nil {
			return err
		}
		was, err := lock.ParseSemaphore(snap.Values[key].Data)
		if err != nil {
			return err
		}
		var next lock.Semaphore
		if take {
			next, err = was.Acquire(id)
		} else {
			next, err = was.Release(id)
		}
		var full *lock.FullError
		if errors.As(err, &full) {
			if _, err := s.Wait(ctx, lock.Watch{Key: key, After: snap.Revision}); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		ok, _, err := s.Commit(ctx, []lock.Cond{{Key: key, ModRevision: snap.Values[key].ModRevision}}, []lock.Op{{Key: key, Value: next.Encode()}})
		if err != nil || ok {
			return err
		}
	}
	return ctx.Err()
}
