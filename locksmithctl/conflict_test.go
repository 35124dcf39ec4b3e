package main

import (
	"context"
	"fmt"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
)

// crowd is the number of commands that run at once.
const crowd = 16

// TestConflictsAreRetried runs many commands at once that change the same document: each succeeds, once, and at no
// revision are more slots held than there are.
func TestConflictsAreRetried(t *testing.T) {
	t.Parallel()
	for _, v := range etcdtest.OldestAndNewest() {
		t.Run(v.String(), func(t *testing.T) {
			t.Parallel()
			server := etcdtest.MustStart(t, v, etcdtest.Options{})
			history := watchSemaphore(t, server)

			var setMax, lockAll, unlockAll [][]string
			for i := range crowd {
				id := fmt.Sprintf("host-%02d", i)
				setMax = append(setMax, []string{"set-max", fmt.Sprint(crowd)})
				lockAll = append(lockAll, []string{"lock", id})
				unlockAll = append(unlockAll, []string{"unlock", id})
			}

			wantSuccess(t, runAll(t, server, setMax)...)
			wantSuccess(t, runAll(t, server, lockAll)...)
			if s := semaphore(t, server); len(s.Holders) != crowd || s.Free != 0 {
				t.Errorf("after all have taken a slot: %+v", s)
			}
			wantSuccess(t, runAll(t, server, unlockAll)...)
			if s := semaphore(t, server); len(s.Holders) != 0 || s.Free != crowd {
				t.Errorf("after all have given it back: %+v", s)
			}

			// With fewer slots than hosts, as many commands succeed as there are slots.
			wantSuccess(t, runOne(t, server, "set-max", "3"))
			taken := 0
			for _, r := range runAll(t, server, lockAll) {
				switch {
				case r.code == 0:
					taken++
				case r.code != 1 || !strings.Contains(r.stderr, "no slot is free: max is 3, held by host-"):
					t.Errorf("%v exits with %d and says %s", r.args, r.code, r.stderr)
				}
			}
			if s := semaphore(t, server); taken != 3 || len(s.Holders) != 3 {
				t.Errorf("%d commands say that they took one of 3 slots: %+v", taken, s)
			}
			history(t)
		})
	}
}

// watchSemaphore follows the document. The function that it returns checks every revision up to the present one.
func watchSemaphore(t *testing.T, server *etcdtest.Server) func(*testing.T) {
	t.Helper()
	client, err := server.Client()
	must.Do(t, err)
	changes := client.Watch(t.Context(), semaphoreKey, clientv3.WithRev(1))
	return func(t *testing.T) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		resp, err := client.Get(ctx, semaphoreKey)
		must.Do(t, err)
		for {
			var change clientv3.WatchResponse
			select {
			case change = <-changes:
			case <-ctx.Done():
				t.Fatal(ctx.Err())
			}
			for _, e := range change.Events {
				// A document that contradicts itself, for example with more holders than max, does not parse or
				// has fewer than 0 free slots.
				s, err := lock.ParseSemaphore(e.Kv.Value)
				if err != nil || s.Free < 0 {
					t.Errorf("at revision %d: %s: %v", e.Kv.ModRevision, e.Kv.Value, err)
				}
				if e.Kv.ModRevision == resp.Kvs[0].ModRevision {
					return
				}
			}
		}
	}
}
