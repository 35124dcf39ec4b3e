package etcd

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// No connection is made here: the test holds the turn of the call that would make it.
func TestCallsWaitForAConnectionOnlyAsLongAsTheyMay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		missing := filepath.Join(t.TempDir(), "missing")
		s := New(Config{Endpoints: "http://192.0.2.1:2379", Username: "locksmith", PasswordFile: missing})
		s.dialing <- struct{}{}
		call := func(ctx context.Context) <-chan error {
			done := make(chan error, 1)
			go func() {
				done <- s.once(ctx, func(*clientv3.Client) error { return nil })
			}()
			synctest.Wait()
			return done
		}
		canceled, cancel := context.WithCancel(t.Context())
		limited, end := context.WithTimeout(t.Context(), time.Second)
		defer end()
		first, second, others := call(canceled), call(limited), []<-chan error{call(t.Context()), call(t.Context())}
		cancel()
		if err := <-first; err != context.Canceled {
			t.Errorf("the error is %v", err)
		}
		if err := <-second; !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "etcd at http://192.0.2.1:2379") {
			t.Errorf("the error is %v", err)
		}
		if s.failures != 0 || len(others[0])+len(others[1]) > 0 {
			t.Errorf("there are %d failures", s.failures)
		}

		// The call that others wait for fails, and they do not try for as long, one after another.
		failed := errors.New("no answer")
		s.dialed = dialed{1, failed}
		<-s.dialing
		for _, done := range others {
			if err := <-done; err != failed {
				t.Errorf("the error is %v", err)
			}
		}
		// A later call tries by itself.
		if err := <-call(t.Context()); err == nil || !strings.Contains(err.Error(), missing) {
			t.Errorf("the error is %v", err)
		}
	})
}
