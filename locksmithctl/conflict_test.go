package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/etcdtest"
)

// crowd is how many commands run at once.
const crowd = 16

// TestConflictsAreRetried has many commands change the same document at once:
// each is done, once, and at no revision do more hold a slot than there are.
func TestConflictsAreRetried(t *testing.T) {
	t.Parallel()
	for _, v := range etcdtest.OldestAndNewest() {
		t.Run(v.String(), func(t *testing.T) {
			t.Parallel()
			server := etcdtest.MustStart(t, v, etcdtest.Options{})
			history := watch(t, server)

			var setMax, lockAll, unlockAll [][]string
			for i := range crowd {
				id := fmt.Sprintf("host-%02d", i)
				setMax = append(setMax, []string{"set-max", fmt.Sprint(crowd)})
				lockAll = append(lockAll, []string{"lock", id})
				unlockAll = append(unlockAll, []string{"unlock", id})
			}

			wantAll(t, atOnce(t, server, setMax))
			wantAll(t, atOnce(t, server, lockAll))
			if s := status(t, server); len(s.Holders) != crowd || s.Free != 0 {
				t.Errorf("after everybody took a slot: %+v", s)
			}
			wantAll(t, atOnce(t, server, unlockAll))
			if s := status(t, server); len(s.Holders) != 0 || s.Free != crowd {
				t.Errorf("after everybody gave it back: %+v", s)
			}

			// Fewer slots than hosts: just as many succeed as there are slots.
			wantAll(t, atOnce(t, server, [][]string{{"set-max", "3"}}))
			taken := 0
			for _, r := range atOnce(t, server, lockAll) {
				switch {
				case r.code == 0:
					taken++
				case r.code != 1 || !strings.Contains(r.stderr, "no slot is free: max is 3, held by host-"):
					t.Errorf("%v exits with %d and says %s", r.args, r.code, r.stderr)
				}
			}
			if s := status(t, server); taken != 3 || len(s.Holders) != 3 {
				t.Errorf("%d say that they took one of 3 slots: %+v", taken, s)
			}
			history(t)
		})
	}
}

// result is what came of one command.
type result struct {
	args           []string
	code           int
	stdout, stderr string
}

// atOnce runs commands at the same time.
func atOnce(t *testing.T, server *etcdtest.Server, commands [][]string) []result {
	t.Helper()
	results := make([]result, len(commands))
	begin := make(chan struct{})
	var done sync.WaitGroup
	for i, args := range commands {
		done.Go(func() {
			<-begin
			var stdout, stderr strings.Builder
			code := run(process{
				args:   append([]string{"--root=" + t.TempDir(), "-endpoint", server.Endpoint()}, args...),
				stdout: &stdout,
				stderr: &stderr,
				now:    time.Now,
			})
			results[i] = result{args, code, stdout.String(), stderr.String()}
		})
	}
	close(begin)
	done.Wait()
	return results
}

func wantAll(t *testing.T, results []result) {
	t.Helper()
	for _, r := range results {
		if r.code != 0 || r.stderr != "" {
			t.Errorf("%v exits with %d and says %s", r.args, r.code, r.stderr)
		}
	}
}

func status(t *testing.T, server *etcdtest.Server) lock.Semaphore {
	t.Helper()
	client, err := server.Client()
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Get(t.Context(), defaultKey)
	if err != nil {
		t.Fatal(err)
	}
	s, err := lock.ParseSemaphore(resp.Kvs[0].Value)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// watch follows the document from the outside. The function that it returns checks
// every revision up to the present one.
func watch(t *testing.T, server *etcdtest.Server) func(*testing.T) {
	t.Helper()
	client, err := server.Client()
	if err != nil {
		t.Fatal(err)
	}
	changes := client.Watch(t.Context(), defaultKey, clientv3.WithRev(1))
	return func(t *testing.T) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		resp, err := client.Get(ctx, defaultKey)
		if err != nil {
			t.Fatal(err)
		}
		for {
			var change clientv3.WatchResponse
			select {
			case change = <-changes:
			case <-ctx.Done():
				t.Fatal(ctx.Err())
			}
			for _, e := range change.Events {
				// A document that contradicts itself, with more holders than max for
				// example, does not parse or has less than no slots free.
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
