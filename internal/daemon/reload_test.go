package daemon

import (
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmithd/locksmith/internal/policy"
)

func TestReloadMovesToTheNewGroup(t *testing.T) {
	for i, way := range ways {
		if way.stuck {
			continue
		}
		t.Run(way.name, func(t *testing.T) {
			in(t, func(t *testing.T, s *site) {
				a, b := s.start(i), newSlot(s, "B", policy.NotHeld)
				s.set(func() { s.local = policy.Local{} })
				s.reload <- locked(b)
				synctest.Wait()
				if a.is() != policy.NotHeld {
					t.Error("the old group's slot is kept")
				}
				last := s.called()[len(s.called())-1]
				if way.state == policy.Idle {
					s.expectState(policy.Idle)
					if last != time.Since(s.began).String()+" B inspect" {
						t.Errorf("the last call is %q", last)
					}
				} else {
					s.expectState(policy.Rebooting) // the update is remembered
					if b.is() == policy.NotHeld {
						t.Error("reboots without the new group's slot")
					}
				}
				i := slices.IndexFunc(s.called(), func(c string) bool { return strings.Contains(c, " B ") })
				if slices.ContainsFunc(s.called()[i:], func(c string) bool { return strings.Contains(c, " A ") }) {
					t.Errorf("the old group is used after the new one:\n%s", strings.Join(s.called(), "\n"))
				}
				s.expectEnd(nil)
			})
		})
	}
}

// An operator mends a wrong endpoint with a reload.
func TestReloadDoesNotWaitForAnEtcdThatDoesNotAnswer(t *testing.T) {
	for i, way := range ways {
		if !way.stuck || way.state == policy.Rebooting {
			continue
		}
		t.Run(way.name, func(t *testing.T) {
			in(t, func(t *testing.T, s *site) {
				s.start(i)
				s.set(func() { s.refuse = nil })
				s.reload <- locked(newSlot(s, "B", policy.NotHeld))
				synctest.Wait()
				if calls := s.called(); !slices.Contains(calls, time.Since(s.began).String()+" B inspect") {
					t.Errorf("calls:\n%s", strings.Join(calls, "\n"))
				}
				told := slices.ContainsFunc(s.logged(), func(line map[string]string) bool {
					return strings.Contains(line[slog.MessageKey], "may still be held")
				})
				if !told {
					t.Error("the log does not mention the slot that stays behind")
				}
				s.expectEnd(nil)
			})
		})
	}
}

func TestReloadRemembersWhatWasAskedForByHand(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		s.run(Settings{Policy: policy.Config{Window: &spans{}}})
		s.tell(asked)
		s.expectState(policy.Waiting)
		s.reload <- Settings{}
		synctest.Wait()
		s.expectState(policy.Rebooting)
		s.expectEnd(nil)
	})
}

func TestReloadOfTheSameLockKeepsTheSlot(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		a := newSlot(s, "A", policy.NotHeld)
		s.local = people
		s.run(locked(a))
		s.tell(asked)
		s.expectState(policy.Preparing)
		before := s.called()
		s.reload <- locked(a)
		synctest.Wait()
		s.expectState(policy.Preparing)
		s.expectCalls(before...)

		shut := locked(a)
		shut.Policy.Window = &spans{}
		s.reload <- shut
		synctest.Wait()
		s.expectState(policy.Waiting)
		if a.is() != policy.NotHeld {
			t.Error("the new window is shut, and the slot is kept")
		}
		s.expectEnd(nil)
	})
}

// Events that come while the slot is being given back for the new configuration are
// for the new configuration.
func TestNothingIsLostDuringAReload(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		a, b, c := newSlot(s, "A", policy.NotHeld), newSlot(s, "B", policy.NotHeld), newSlot(s, "C", policy.NotHeld)
		s.local = people
		s.run(locked(a))
		s.tell(need)
		a.set(func() { a.deaf = true })
		begins := func(k *slot) Settings {
			settings := locked(k)
			settings.Begin = func() { s.note(k.name + " begin") }
			return settings
		}
		s.reload <- begins(b) // hangs until the release gives up
		synctest.Wait()
		s.expectState(policy.Releasing)
		s.tell(policy.Update{Source: policy.Engine})
		s.reload <- begins(c) // a better one: B is never used
		synctest.Wait()
		s.tell(asked)
		s.tell(policy.Update{Source: policy.Engine, Pending: true, Version: "5"})
		s.set(func() { s.local = policy.Local{} })
		s.sleep(policy.Unlock{}.Kind().Limit)
		s.expectState(policy.Rebooting)
		if c.is() == policy.NotHeld || b.is() != policy.NotHeld {
			t.Errorf("C %v, B %v", c.is(), b.is())
		}
		if !slices.Contains(s.called(), policy.Unlock{}.Kind().Limit.String()+" C acquire 5") {
			t.Errorf("calls:\n%s", strings.Join(s.called(), "\n"))
		}
		var locks []string // in the order of their use
		for _, call := range s.called() {
			of := strings.Fields(call)[1]
			if strings.HasSuffix(call, " begin") {
				of += " begin"
			}
			if slices.Contains([]string{"A", "B", "B begin", "C", "C begin"}, of) {
				locks = append(locks, of)
			}
		}
		if got, want := slices.Compact(locks), []string{"A", "C begin", "C"}; !slices.Equal(got, want) {
			t.Errorf("the locks were used in the order %q, want %q", got, want)
		}
		s.expectEnd(nil)
	})
}

func TestReloadDuringTheUsersDelayKeepsIt(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		k := newSlot(s, "A", policy.NotHeld)
		s.warned(k)
		settings := locked(k)
		settings.Policy.LoginDelay = time.Hour
		s.reload <- settings
		s.sleep(5 * time.Minute)
		s.expectState(policy.Rebooting)
		if s.did("cancel") {
			t.Error("what users were told is taken back")
		}
		s.expectEnd(nil)
	})
}
