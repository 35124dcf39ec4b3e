// Package must ends a test when something that has to work does not.
package must

import (
	"testing"
	"time"
)

// Do ends the test if there is an error.
func Do(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Eventually ends the test if a condition does not hold within a time. It polls, ever less often, up to ten
// times a second: use it for what reports no changes, and Await for what does.
func Eventually(t testing.TB, within time.Duration, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(within)
	for wait := 2 * time.Millisecond; !holds(); wait = min(2*wait, 100*time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("timed out waiting for %s", what)
		}
		time.Sleep(wait)
	}
}

// Await ends the test if a condition does not hold within a time. Where it does not hold yet, check returns a
// channel that is closed at the next change.
func Await(t testing.TB, within time.Duration, what string, check func() (changed <-chan struct{}, holds bool)) {
	t.Helper()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	for {
		changed, holds := check()
		if holds {
			return
		}
		select {
		case <-changed:
		case <-deadline.C:
			t.Fatalf("timed out waiting for %s", what)
		}
	}
}

// Receive returns the next value from a channel, or the zero value once it is closed, and ends the test if
// neither happens within a time.
func Receive[T any](t testing.TB, within time.Duration, what string, values <-chan T) T {
	t.Helper()
	select {
	case v := <-values:
		return v
	case <-time.After(within):
		t.Fatalf("timed out waiting for %s", what)
		panic("unreachable")
	}
}
