package storetest

import (
	"net/url"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/lock"
)

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

// Contract runs the suite that every lock.Store must pass. open returns a store; the stores of one
// suite may share their data.
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
		{"a read that would be too large is refused, and a smaller one is not", tooLarge},
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

// key returns a key that only this test uses.
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

func grant(t *testing.T, s lock.Store, ttl time.Duration) int64 {
	t.Helper()
	lease, err := s.Grant(t.Context(), ttl)
	if err != nil || lease == 0 {
		t.Fatal(lease, err)
	}
	return lease
}
