package must

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

// recorder is a test that records how it was ended.
type recorder struct {
	testing.TB
	ended string
}

func (r *recorder) Helper()           {}
func (r *recorder) Fatal(args ...any) { r.Fatalf("%s", fmt.Sprint(args...)) }
func (r *recorder) Fatalf(format string, args ...any) {
	r.ended = fmt.Sprintf(format, args...)
	panic(r)
}

func TestWhatDoesNotHappenEndsTheTest(t *testing.T) {
	const soon, never = time.Minute, time.Millisecond
	closed, value := make(chan struct{}), make(chan int, 1)
	close(closed)
	value <- 7
	asked, holds := 0, false
	third := func() bool { asked++; holds = asked%3 == 0; return holds }
	check := func(t testing.TB) {
		if !holds {
			t.Fatal("it returned too early")
		}
	}
	for name, test := range map[string]struct {
		run  func(t testing.TB)
		want string
	}{
		"no error":      {func(t testing.TB) { Do(t, nil) }, ""},
		"error":         {func(t testing.TB) { Do(t, errors.New("it broke")) }, "it broke"},
		"holds at last": {func(t testing.TB) { Eventually(t, soon, "it", third); check(t) }, ""},
		"never holds":   {func(t testing.TB) { Eventually(t, never, "it", func() bool { return false }) }, "timed out waiting for it"},
		"holds after change": {func(t testing.TB) {
			Await(t, soon, "it", func() (<-chan struct{}, bool) { return closed, third() })
			check(t)
		}, ""},
		"no change": {func(t testing.TB) {
			Await(t, never, "it", func() (<-chan struct{}, bool) { return make(chan struct{}), false })
		}, "timed out waiting for it"},
		"value": {func(t testing.TB) {
			if got := Receive(t, soon, "it", value); got != 7 {
				t.Fatal(got)
			}
		}, ""},
		"closed channel": {func(t testing.TB) { Receive(t, soon, "it", closed) }, ""},
		"no value":       {func(t testing.TB) { Receive(t, never, "it", make(chan int)) }, "timed out waiting for it"},
	} {
		t.Run(name, func(t *testing.T) {
			r := &recorder{TB: t}
			func() {
				defer func() { _ = recover() }()
				test.run(r)
			}()
			if r.ended != test.want {
				t.Errorf("the test ended with %q, want %q", r.ended, test.want)
			}
		})
	}
}
