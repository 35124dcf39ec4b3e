package sparse

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestLinesAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Lines
		for i, want := range []bool{true, false, false} {
			if got := l.Allow("a"); got != want {
				t.Errorf("line %d is allowed: %v", i, got)
			}
		}
		allowed := 0
		for i := range 1000 {
			if l.Allow(fmt.Sprint(i)) {
				allowed++
			}
		}
		if allowed != 19 {
			t.Errorf("%d lines are allowed about 1000 keys, want 19", allowed)
		}
		time.Sleep(59 * time.Minute)
		if l.Allow("a") || !l.Allow("b") {
			t.Error("within the hour a is allowed, or b is not")
		}
		time.Sleep(time.Minute)
		if !l.Allow("a") {
			t.Error("after an hour a is not allowed")
		}
		for i := range 100_000 {
			time.Sleep(time.Second)
			l.Allow(fmt.Sprint(i))
		}
		if len(l.logged) > 1200 {
			t.Errorf("%d keys are remembered", len(l.logged))
		}
	})
}
