package storetest

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/lock"
)

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

func tooLarge(t *testing.T, s lock.Store) {
	for _, name := range []string{"q/a", "q/b", "q/c"} {
		mustCommit(t, s, nil, lock.Op{Key: key(t, name), Value: bytes.Repeat([]byte("x"), 50_000)})
	}
	all := lock.Read{Key: key(t, "q/"), End: key(t, "q0"), AtMost: 120_000}
	for limit, fits := range map[int]bool{0: false, 3: false, 2: true, 1: true} {
		all.Limit = limit
		snap, err := s.Get(t.Context(), all)
		if fits && (err != nil || len(snap.Values) != limit) {
			t.Errorf("a read of %d keys has %d, %v", limit, len(snap.Values), err)
		}
		if !fits && (!errors.Is(err, lock.ErrTooLarge) || !errors.Is(err, lock.ErrRefused)) {
			t.Errorf("a read of %d keys says %v", limit, err)
		}
	}
	get(t, s, key(t, "q/a"), key(t, "q/b"), key(t, "q/c")) // without a bound it is read
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
