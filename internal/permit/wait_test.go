package permit_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmithd/locksmith/fleetlock"
	"github.com/locksmithd/locksmith/internal/daemon"
	"github.com/locksmithd/locksmith/internal/permit"
	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/test/fleetlocktest"
	"github.com/locksmithd/locksmith/test/must"
)

// last returns what a wait has said last, "" for nothing.
func (w waiting) last() (says string) {
	for {
		select {
		case says = <-w.says:
		default:
			return says
		}
	}
}

func (w waiting) wantSays(t *testing.T, want ...string) {
	t.Helper()
	got := w.last()
	for _, part := range want {
		if !strings.Contains(got, part) {
			t.Errorf("it waits for %q, want %q", got, part)
		}
	}
	if strings.ContainsAny(got, "\n\x1b") {
		t.Errorf("%q can move the cursor", got)
	}
}

// A server that lets requests wait is asked again at once, so that a slot that becomes free is taken at once.
func TestRequestThatIsHeldOpenIsTheWait(t *testing.T) {
	in(t, func(t *testing.T, h *host) {
		h.server.Hold(50 * time.Second)
		h.server.Take("other")
		w := h.wait(h.start())
		after(49 * time.Second)
		h.wantCalls("pre-reboot")
		after(10*time.Minute - 49*time.Second)
		if n := len(h.server.Calls()); n < 10 || n > 11 {
			t.Errorf("in ten minutes it has asked %d times more", n)
		}
		w.wantSays(t, "the FleetLock server answers lock_held: no slot is free: max is 1, held by other")
		h.wantHolders("other")
		h.server.Free("other")
		synctest.Wait()
		after(2 * time.Second) // between two requests
		must.Do(t, <-w.ended)
		h.wantHolders(appID)
	})
}

// A server that refuses at once is asked less and less often, and not by all hosts at the same time.
func TestServerThatRefusesAtOnceIsNotAskedAllTheTime(t *testing.T) {
	in(t, func(t *testing.T, h *host) {
		h.server.Take("other")
		w := h.wait(h.start())
		after(14 * time.Second)
		h.wantCalls("pre-reboot")
		after(time.Hour)
		if n := len(h.server.Calls()); n < 12 || n > 30 {
			t.Errorf("in an hour it has asked %d times", n)
		}
		if n := strings.Count(h.log.String(), "waiting for a slot"); n != 1 {
			t.Errorf("the log says %d times that it waits:\n%s", n, h.log.String())
		}
		h.server.Free("other")
		after(5 * time.Minute)
		must.Do(t, <-w.ended)
	})
}

// The end of a wait withdraws the place, so that the server does not grant a slot that nobody wants.
func TestEndOfAWaitWithdraws(t *testing.T) {
	for what, hold := range map[string]time.Duration{"between two requests": 0, "during a request": time.Hour} {
		for _, cause := range []error{context.Canceled, daemon.ErrKeepPlace} {
			t.Run(what, func(t *testing.T) {
				in(t, func(t *testing.T, h *host) {
					h.server.Hold(hold)
					h.server.Take("other")
					ctx, cancel := context.WithCancelCause(t.Context())
					ended := make(chan error)
					go func() { ended <- h.start().Acquire(ctx, update, quiet) }()
					after(time.Second)
					cancel(cause)
					if err := <-ended; !errors.Is(err, context.Canceled) || errors.Is(err, daemon.ErrUnknown) {
						t.Errorf("it ends with %v", err)
					}
					h.wantCalls("pre-reboot", "steady-state")
					h.wantState(permit.None)
				})
			})
		}
	}
}

// Without an answer to that either, the slot may be held: the daemon goes on giving it back.
func TestOutcomeIsUnknownUntilTheServerHasAnswered(t *testing.T) {
	in(t, func(t *testing.T, h *host) {
		h.server.Break(fleetlocktest.Hang)
		s := h.start()
		w := h.wait(s)
		begin := time.Now()
		w.stop()
		if err := <-w.ended; !errors.Is(err, daemon.ErrUnknown) {
			t.Errorf("it ends with %v", err)
		}
		if took := time.Since(begin); took != 4*time.Second {
			t.Errorf("it has tried for %v", took)
		}
		h.wantState(permit.Asked)
		h.wantInspect(h.start(), policy.HeldUnknown)
		h.server.Break(nil)
		must.Do(t, s.Release(t.Context()))
		h.wantState(permit.None)
	})
}

// A grant whose answer is lost is not lost.
func TestAnswerThatIsLostAfterTheGrant(t *testing.T) {
	in(t, func(t *testing.T, h *host) {
		h.server.Break(fleetlocktest.Lose("pre-reboot"))
		w := h.wait(h.start())
		h.wantHolders(appID)
		h.wantState(permit.Asked)
		w.wantSays(t, "http://reboots.example/v1/pre-reboot: the server closed the connection without an answer")
		h.server.Break(nil)
		after(time.Minute)
		must.Do(t, <-w.ended)
		h.wantState(permit.Granted)
		must.Do(t, h.start().Release(t.Context()))

		h.server.Break(fleetlocktest.Lose("pre-reboot"))
		w = h.wait(h.start())
		h.wantHolders(appID)
		w.stop()
		if err := <-w.ended; errors.Is(err, daemon.ErrUnknown) {
			t.Errorf("it was given back, and the end is %v", err)
		}
		h.wantHolders()
		h.wantState(permit.None)
	})
}

// What holds the slot from before does not give it back because the server does not answer.
func TestEndOfAWaitKeepsASlotFromBefore(t *testing.T) {
	in(t, func(t *testing.T, h *host) {
		s := h.start()
		h.acquire(s)
		h.server.Break(fleetlocktest.Only("pre-reboot", fleetlocktest.Raw(http.StatusServiceUnavailable, "text/plain", "down for maintenance")))
		w := h.wait(s)
		w.wantSays(t, `503 Service Unavailable with "down for maintenance"`)
		w.stop()
		if err := <-w.ended; !errors.Is(err, context.Canceled) {
			t.Errorf("it ends with %v", err)
		}
		h.wantHolders(appID)
		h.wantState(permit.Granted)
	})
}

// A server that cannot be reached at all has nothing to withdraw.
func TestServerThatIsDown(t *testing.T) {
	in(t, func(t *testing.T, h *host) {
		must.Do(t, h.start().Release(t.Context()))
		h.down()
		w := h.wait(h.start())
		w.wantSays(t, "http://reboots.example/v1/pre-reboot: ", "connection refused")
		w.stop()
		if err := <-w.ended; errors.Is(err, daemon.ErrUnknown) {
			t.Errorf("it ends with %v", err)
		}
		h.wantState(permit.None)
		w = h.wait(h.start())
		after(time.Hour)
		h.up()
		after(5 * time.Minute)
		must.Do(t, <-w.ended)
		h.wantHolders(appID)
	})
}

// What was not known before is not known after a request that has reached nobody, either.
func TestServerThatIsDownSettlesNothing(t *testing.T) {
	for what, before := range map[string]func(h *host){
		"no file":               func(*host) {},
		"asked":                 func(h *host) { h.remembers(memory(permit.Asked, "boot 1")) },
		"asked in another boot": func(h *host) { h.remembers(memory(permit.Asked, "boot 0")) },
		"none in another boot":  func(h *host) { h.remembers(memory(permit.None, "boot 0")) },
	} {
		t.Run(what, func(t *testing.T) {
			in(t, func(t *testing.T, h *host) {
				before(h)
				h.down()
				if _, err := h.start().Try(t.Context(), policy.Lock{}); !errors.Is(err, daemon.ErrUnknown) {
					t.Errorf("it ends with %v", err)
				}
				h.wantInspect(h.start(), policy.HeldUnknown)
			})
		})
	}
}

// Whatever a server answers that is not a grant, the host has no slot, says what came in one line, and goes on trying.
func TestAnswersThatAreNotAGrant(t *testing.T) {
	for what, test := range map[string]struct {
		fault fleetlocktest.Fault
		says  string
	}{
		"HTML":               {fleetlocktest.Raw(200, "text/html", "<html>Welcome</html>"), "the server answered 200 OK with HTML, which is not an answer of FleetLock: is the base URL right?"},
		"no content":         {fleetlocktest.Raw(204, "", ""), "the server answered 204 No Content with an empty body, which is not an answer of FleetLock"},
		"accepted":           {fleetlocktest.Raw(202, "application/json", `{"kind":"waiting_for_node_drain","value":"wait"}`), "waiting_for_node_drain: wait"},
		"redirect":           {fleetlocktest.Raw(302, "", ""), `the server answered 302 Found to "http://login.example/", and redirects are not followed`},
		"nothing":            {fleetlocktest.Drop, "the server closed the connection without an answer"},
		"500 with JSON":      {fleetlocktest.Raw(500, "application/json", `{"kind":"failed_lock","value":"all 1 semaphore slots currently locked"}`), "failed_lock: all 1 semaphore slots currently locked"},
		"another user":       {fleetlocktest.Raw(401, "application/json", `{"kind":"unauthorized","value":"who are you?"}`), "LOCKSMITHD_FLEETLOCK_USERNAME and LOCKSMITHD_FLEETLOCK_PASSWORD_FILE say who asks"},
		"unknown group":      {fleetlocktest.Raw(400, "application/json", `{"kind":"unknown_group","value":"no such group"}`), "unknown_group: no such group"},
		"control characters": {fleetlocktest.Raw(423, "application/json", `{"kind":"lock_held\u001b[2J","value":"held by\nevil\u001b[31m"}`), "held by evil"},
		"no path":            {fleetlocktest.Raw(404, "text/plain", "404 page not found"), "404 Not Found"},
		"100 MB":             {fleetlocktest.Raw(200, "text/plain", strings.Repeat("a", 1<<20)), "with more than 65536 bytes"},
	} {
		t.Run(what, func(t *testing.T) {
			in(t, func(t *testing.T, h *host) {
				h.server.Break(test.fault)
				s := h.start()
				w := h.wait(s)
				w.wantSays(t, test.says)
				h.wantState(permit.Asked)
				h.wantInspect(h.start(), policy.HeldUnknown)
				if err := s.Release(t.Context()); err == nil && what != "nothing" {
					t.Errorf("the slot counts as given back")
				}
				h.wantState(permit.Asked)
				h.server.Break(nil)
				after(5 * time.Minute)
				must.Do(t, <-w.ended)
				h.wantState(permit.Granted)
			})
		})
	}
}

// A server that does not answer is left after half an hour, and asked again.
func TestServerThatDoesNotAnswer(t *testing.T) {
	in(t, func(t *testing.T, h *host) {
		h.server.Break(fleetlocktest.Hang)
		w := h.wait(h.start())
		after(29 * time.Minute)
		w.wantSays(t)
		after(time.Minute)
		w.wantSays(t, "http://reboots.example/v1/pre-reboot: no answer within 30m0s")
		h.server.Break(nil)
		after(time.Minute)
		must.Do(t, <-w.ended)
	})
}

// A server that has granted a slot and now denies it is believed, and what it may think is settled.
func TestGrantThatIsDeniedLater(t *testing.T) {
	in(t, func(t *testing.T, h *host) {
		s := h.start()
		h.acquire(s)
		h.server.Refuse(&fleetlock.Error{Kind: fleetlock.KindPaused, Value: "paused by ann"})
		h.server.Calls()
		h.wantStillHeld(s, false)
		h.wantCalls("pre-reboot", "steady-state")
		h.wantHolders()
		h.wantState(permit.None)
		h.wantLog("the server has granted a slot, and refuses it now")
	})
}

// An answer that does not say whether the slot is held leaves that open, and leaves the slot.
func TestSlotThatCannotBeAskedFor(t *testing.T) {
	for what, fault := range map[string]fleetlocktest.Fault{
		"HTML":                                fleetlocktest.Only("pre-reboot", fleetlocktest.Raw(200, "text/html", "<html>")),
		"500 with JSON":                       fleetlocktest.Only("pre-reboot", fleetlocktest.Raw(500, "application/json", `{"kind":"failed_lock","value":"etcd is slow"}`)),
		"nothing":                             fleetlocktest.Only("pre-reboot", fleetlocktest.Drop),
		"an error that it does not take back": fleetlocktest.Raw(403, "application/json", `{"kind":"forbidden","value":"not you"}`),
	} {
		t.Run(what, func(t *testing.T) {
			in(t, func(t *testing.T, h *host) {
				s := h.start()
				h.acquire(s)
				h.server.Break(fault)
				if held, err := s.StillHeld(t.Context()); held || err == nil {
					t.Errorf("StillHeld says %v, %v", held, err)
				}
				h.wantHolders(appID)
				h.wantState(permit.Granted)
			})
		})
	}
}

// A command by hand asks once, and says whether the host had the slot before.
func TestTry(t *testing.T) {
	in(t, func(t *testing.T, h *host) {
		try := func(want bool) error {
			t.Helper()
			already, err := h.start().Try(t.Context(), policy.Lock{})
			if already != want {
				t.Errorf("it had the slot already: %v", already)
			}
			return err
		}
		must.Do(t, try(false))
		must.Do(t, try(true))
		h.wantCalls("pre-reboot", "pre-reboot")
		h.boot("boot 2")
		must.Do(t, h.start().Free(t.Context(), appID))
		h.wantHolders()
		h.wantState(permit.Granted) // only Release knows
		must.Do(t, h.start().Release(t.Context()))
		h.server.Take("other")
		h.server.Hold(time.Minute)
		h.server.Calls()
		if err := try(false); err == nil || errors.Is(err, daemon.ErrUnknown) {
			t.Errorf("without a slot: %v", err)
		}
		h.wantCalls("pre-reboot", "steady-state")
		h.wantState(permit.None)
	})
}

// A request that the server lets wait is not given up early, also by a command that asks once.
func TestTryWaitsForAsLongAsTheServerDoes(t *testing.T) {
	in(t, func(t *testing.T, h *host) {
		h.server.Hold(50 * time.Second)
		h.server.Take("other")
		begin := time.Now()
		_, err := h.start().Try(t.Context(), policy.Lock{})
		if took := time.Since(begin); err == nil || !strings.Contains(permit.Says(err), "lock_held: no slot is free") || took != 50*time.Second {
			t.Errorf("after %v it ends with %v", took, err)
		}
		h.wantState(permit.None)
		time.AfterFunc(40*time.Second, func() { h.server.Free("other") })
		_, err = h.start().Try(t.Context(), policy.Lock{})
		must.Do(t, err)
		h.wantHolders(appID)
		h.wantState(permit.Granted)
	})
}

// The question right before the reboot is not held open until the host should have rebooted long ago: a holder is
// answered at once.
func TestStillHeldDoesNotWaitForAFreeSlot(t *testing.T) {
	in(t, func(t *testing.T, h *host) {
		s := h.start()
		h.acquire(s)
		h.server.Hold(50 * time.Second)
		h.server.Free(appID)
		h.server.Take("other")
		begin := time.Now()
		held, err := s.StillHeld(t.Context())
		if took := time.Since(begin); held || err == nil || !strings.Contains(err.Error(), "no answer within 10s, and who has a slot gets one at once") || took != 10*time.Second {
			t.Errorf("after %v it says %v, %v", took, held, err)
		}
		h.wantState(permit.Granted) // it may get it yet
		must.Do(t, s.Release(t.Context()))
		h.wantHolders("other")
	})
}

// What an answer says about the slot, by its code and body. Where it says nothing, nothing is guessed.
func TestEveryAnswer(t *testing.T) {
	const refusal = `{"kind":"some_kind","value":"some value"}`
	bodies := map[string][2]string{
		"JSON":            {"application/json", refusal},
		"HTML":            {"text/html", "<html>Welcome</html>"},
		"text":            {"text/plain", "some text"},
		"an empty body":   {"", ""},
		"JSON of another": {"application/json", `{"error":"some error"}`},
	}
	for _, code := range []int{
		200, 201, 202, 204, 206, 299, 300, 301, 302, 303, 307, 308, 399, 400, 401, 403, 404, 405, 407, 408, 409, 413, 421, 423, 425, 429, 451, 499,
		500, 501, 502, 503, 504, 507, 511, 599, 999,
	} {
		for name, body := range bodies {
			if code == 204 && name != "an empty body" {
				continue // HTTP does not allow it
			}
			grants := code == 200 && (name == "text" || name == "an empty body" || name == "JSON of another")
			denies := code >= 400 && code <= 499 && code != 408 && code != 429
			t.Run(fmt.Sprintf("%d with %s", code, name), func(t *testing.T) {
				in(t, func(t *testing.T, h *host) {
					s := h.start()
					s.DoNotSync() // else this takes a minute
					must.Do(t, s.Release(t.Context()))
					h.server.Break(fleetlocktest.Raw(code, body[0], body[1]))
					_, err := s.Try(t.Context(), policy.Lock{})
					if (err == nil) != grants || errors.Is(err, daemon.ErrUnknown) == (grants || denies) {
						t.Errorf("to a request for a slot: %v", err)
					}
					switch {
					case grants:
						h.wantState(permit.Granted)
					case denies:
						h.wantState(permit.None)
					default:
						h.wantState(permit.Asked)
					}

					// The same for a slot that was granted, while the server takes it back, and while it does not.
					for _, fault := range []fleetlocktest.Fault{fleetlocktest.Only("pre-reboot", fleetlocktest.Raw(code, body[0], body[1])), fleetlocktest.Raw(code, body[0], body[1])} {
						h.server.Break(nil)
						h.acquire(s)
						h.server.Break(fault)
						held, err := s.StillHeld(t.Context())
						takesBack := len(h.server.Holders()) == 0
						switch {
						case grants && held && err == nil, !grants && !held && err != nil && !takesBack:
							h.wantState(permit.Granted)
						case denies && name == "JSON" && !held && err == nil && takesBack:
							h.wantState(permit.None)
						default:
							t.Errorf("to the question for one: %v, %v; it is given back: %v", held, err, takesBack)
						}
					}
				})
			})
		}
	}
}

// locksmithctl gives the slot back while the daemon waits for one. The next request must not be sent before the file
// says again that a slot may be held.
func TestFileSaysSoBeforeEachRequest(t *testing.T) {
	in(t, func(t *testing.T, h *host) {
		h.server.Hold(50 * time.Second)
		h.server.Take("other")
		w := h.wait(h.start())
		h.wantState(permit.Asked)
		must.Do(t, h.start().Release(t.Context())) // of another process
		h.wantState(permit.None)
		after(55 * time.Second)
		h.wantState(permit.Asked)
		h.server.Free("other")
		must.Do(t, <-w.ended)
		h.wantState(permit.Granted)
	})
}

// The question whether the slot is still held does not take it.
func TestStillHeldTakesNoSlot(t *testing.T) {
	for what, test := range map[string]struct {
		change func(*host)
		known  bool
	}{
		"locksmithctl unlock":         {func(h *host) { must.Do(h.t, h.start().Release(h.t.Context())) }, true},
		"the file is gone":            {func(h *host) { must.Do(h.t, os.Remove(h.path())) }, false},
		"the file is broken":          {func(h *host) { h.write(permit.DefaultPath, "{") }, false},
		"another process asks":        {func(h *host) { h.remembers(memory(permit.Asked, "boot 1")) }, false},
		"given back in an older boot": {func(h *host) { h.remembers(memory(permit.None, "boot 0")) }, false},
	} {
		t.Run(what, func(t *testing.T) {
			in(t, func(t *testing.T, h *host) {
				s := h.start()
				h.acquire(s)
				test.change(h)
				h.server.Calls()
				if held, err := s.StillHeld(t.Context()); held || (err == nil) != test.known {
					t.Errorf("StillHeld says %v, %v", held, err)
				}
				h.wantCalls()
			})
		})
	}
}
