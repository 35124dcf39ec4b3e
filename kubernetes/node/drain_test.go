package node

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/locksmithd/locksmith/test/must"
)

// isEviction reports whether a request evicts a pod.
func isEviction(r *http.Request, pod string) bool {
	return r.URL.Path == "/api/v1/namespaces/db/pods/"+pod+"/eviction"
}

// budgetCause is what the API server adds to a refusal because of a disruption budget.
func budgetCause(text string) metav1.StatusCause {
	return metav1.StatusCause{Type: policyv1.DisruptionBudgetCause, Message: "The disruption budget postgres-pdb " + text}
}

const needs = "needs 2 healthy pods and has 2 currently"

// Each refusal is answered twice to the eviction of pod a, and the third eviction succeeds.
func TestDrainTriesAgainWhatMayPass(t *testing.T) {
	for name, test := range map[string]struct {
		refuse func(w http.ResponseWriter)
		why    string // in the status
	}{
		"budget": {func(w http.ResponseWriter) {
			refuse(w, 429, metav1.StatusReasonTooManyRequests, "Cannot evict pod", budgetCause(needs))
		}, "budget postgres-pdb allows none: it " + needs},
		"budget whose numbers are out of order": {func(w http.ResponseWriter) {
			refuse(w, 403, metav1.StatusReasonForbidden, "forbidden", budgetCause("does not allow evicting pods currently: pdb disruptions allowed is negative"))
		}, "budget postgres-pdb does not allow evicting pods currently: pdb disruptions allowed is negative"},
		"budget with evictions that are not confirmed": {func(w http.ResponseWriter) {
			refuse(w, 403, metav1.StatusReasonForbidden, "forbidden", budgetCause("does not allow evicting pods currently: too many pending evictions not confirmed by PDB controller"))
		}, "budget postgres-pdb does not allow evicting pods currently: too many pending evictions not confirmed by PDB controller"},
		"budget that was just changed": {func(w http.ResponseWriter) {
			refuse(w, 429, metav1.StatusReasonTooManyRequests, "Cannot evict pod", budgetCause("is still being processed by the server."))
		}, "budget postgres-pdb is still being processed by the server."},
		"namespace that is being deleted": {func(w http.ResponseWriter) {
			refuse(w, 403, metav1.StatusReasonForbidden, "forbidden", metav1.StatusCause{Type: corev1.NamespaceTerminatingCause})
		}, "its namespace is being deleted"},
		"busy server": {func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", "0")
			http.Error(w, "Too many requests, please try again later.", http.StatusTooManyRequests)
		}, "the API server is busy"},
		"two budgets": {func(w http.ResponseWriter) {
			refuse(w, 500, metav1.StatusReasonInternalError, "This pod has more than one PodDisruptionBudget,\nwhich is not supported.")
		}, "This pod has more than one PodDisruptionBudget, which is not supported."},
		"webhook":    {func(w http.ResponseWriter) { refuse(w, 400, metav1.StatusReasonBadRequest, "denied by webhook") }, "denied by webhook"},
		"connection": {cut, "unexpected EOF"},
		"silence":    {func(http.ResponseWriter) { time.Sleep(callTimeout + time.Second) }, "no answer within 12s"},
	} {
		run(t, name, func(t *testing.T) {
			s := newServer(pod("a"), pod("b"))
			var asked atomic.Int32
			s.answer = func(w http.ResponseWriter, r *http.Request) bool {
				if !isEviction(r, "a") || asked.Add(1) > 2 {
					return false
				}
				test.refuse(w)
				return true
			}
			if err := s.connect(t, Settings{}).Drain(t.Context()); err != nil {
				t.Fatal(err)
			}
			if len(s.pods) > 0 || !s.node.Spec.Unschedulable {
				t.Errorf("left are %v, unschedulable is %v", s.pods, s.node.Spec.Unschedulable)
			}
			if want := "evicting 1 of 2 pods; waiting for db/a: "; !slices.ContainsFunc(s.statuses, func(line string) bool {
				return strings.HasPrefix(line, want) && strings.Contains(line, test.why)
			}) {
				t.Errorf("no status says %q with %q: %q", want, test.why, s.statuses)
			}
		})
	}
}

// Pod a ends: what holds up pod b says more.
func TestStatusNamesAPodThatIsHeldUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(pod("a"), pod("b"))
		var asked atomic.Int32
		s.answer = func(w http.ResponseWriter, r *http.Request) bool {
			if !isEviction(r, "b") || asked.Add(1) > 1 {
				return false
			}
			refuse(w, 429, metav1.StatusReasonTooManyRequests, "Cannot evict pod", budgetCause(needs))
			return true
		}
		must.Do(t, s.connect(t, Settings{}).Drain(t.Context()))
		if want := "evicting 2 of 2 pods; waiting for db/b: budget postgres-pdb allows none: it " + needs; !slices.Contains(s.statuses, want) {
			t.Errorf("no status is %q: %q", want, s.statuses)
		}
	})
}

func TestDrainWaitsAsLongAsTheServerSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(pod("a"), pod("b"))
		var a, b atomic.Int32
		s.answer = func(w http.ResponseWriter, r *http.Request) bool {
			switch {
			case isEviction(r, "a"):
				a.Add(1)
				w.Header().Set("Retry-After", "3600")
				http.Error(w, "Too many requests, please try again later.", http.StatusTooManyRequests)
				return true
			case isEviction(r, "b") && b.Add(1) == 20: // until when a would have been asked for again
				s.seen(func() { s.pods = nil })
				return false
			case isEviction(r, "b"):
				refuse(w, 429, metav1.StatusReasonTooManyRequests, "Cannot evict pod", budgetCause(needs))
				return true
			}
			return false
		}
		if err := s.connect(t, Settings{}).Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if a.Load() != 1 {
			t.Errorf("the eviction was asked for %d times, want once", a.Load())
		}
	})
}

func TestDrainSurvivesAServerThatIsDownForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(pod("a"))
		var lists atomic.Int32
		s.answer = func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/api/v1/pods" && lists.Add(1) > 1 && lists.Load() < 5 { // once the node is cordoned
				cut(w)
			}
			return false
		}
		if err := s.connect(t, Settings{}).Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := s.statuses[0]; !strings.HasPrefix(got, "waiting for the API server: ") || !strings.HasSuffix(got, "unexpected EOF") {
			t.Errorf("the first status is %q", got)
		}
	})
}

func TestDrainWithoutTheRightsFailsAtOnce(t *testing.T) {
	for name, forbidden := range map[string]func(r *http.Request) bool{
		"list":  func(r *http.Request) bool { return r.URL.Path == "/api/v1/pods" },
		"patch": func(r *http.Request) bool { return r.Method == "PATCH" },
		"evict": func(r *http.Request) bool { return isEviction(r, "a") },
	} {
		run(t, name, func(t *testing.T) {
			s := newServer(pod("a"), pod("b"))
			s.answer = func(w http.ResponseWriter, r *http.Request) bool {
				if forbidden(r) {
					refuse(w, 403, metav1.StatusReasonForbidden, "User \"x\" cannot do that")
					return true
				}
				return false
			}
			err := s.connect(t, Settings{}).Drain(t.Context())
			if err == nil || !strings.Contains(err.Error(), `User "x" cannot do that`) || !strings.Contains(err.Error(), "without this right") {
				t.Errorf("the error is %v", err)
			}
			if s.node.Spec.Unschedulable != (name == "evict") {
				t.Errorf("unschedulable is %v", s.node.Spec.Unschedulable)
			}
		})
	}
}

// A kubelet may evict only pods of its own node, so that a pod which moves meanwhile gives a refusal.
func TestRefusalOfAPodThatHasMovedIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(pod("a"))
		s.answer = func(w http.ResponseWriter, r *http.Request) bool {
			if isEviction(r, "a") {
				s.seen(func() { s.pods = nil })
				refuse(w, 403, metav1.StatusReasonForbidden, "node web-1 can only evict pods with spec.nodeName set to itself")
				return true
			}
			return false
		}
		if err := s.connect(t, Settings{}).Drain(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestDrainThatEndsTooEarlyNamesPodsAndBudgets(t *testing.T) {
	for name, test := range map[string]struct {
		timeout time.Duration
		want    string
	}{
		"late":    {time.Minute, "drain node web-1: not done within 1m0s, 1 of 2 pods left: db/a: budget postgres-pdb allows none: it " + needs},
		"stopped": {time.Hour, "drain node web-1: stopped, 1 of 2 pods left: db/a: budget postgres-pdb allows none: it " + needs},
	} {
		run(t, name, func(t *testing.T) {
			s := newServer(pod("a"), pod("b"))
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			var asked atomic.Int32
			s.answer = func(w http.ResponseWriter, r *http.Request) bool {
				if !isEviction(r, "a") {
					return false
				}
				refuse(w, 429, metav1.StatusReasonTooManyRequests, "Cannot evict pod", budgetCause(needs))
				if asked.Add(1) > 2 && test.timeout == time.Hour {
					stop()
				}
				return true
			}
			err := s.connect(t, Settings{Timeout: test.timeout}).Drain(ctx)
			if err == nil || err.Error() != test.want {
				t.Errorf("the error is\n%v, want\n%s", err, test.want)
			}
			if !cordonedByUs(&s.node) {
				t.Error("the cordon is not remembered")
			}
		})
	}
}

// An administrator cordons the node between our reading and our change, or the answer to the change is lost.
func TestNobodysCordonIsTakenForOurs(t *testing.T) {
	for name, test := range map[string]struct {
		meddle func(s *server, w http.ResponseWriter) (answered bool)
		fails  bool
		ours   bool
	}{
		"other change":   {func(s *server, w http.ResponseWriter) bool { s.touch(); return false }, false, true},
		"administrator":  {func(s *server, w http.ResponseWriter) bool { s.node.Spec.Unschedulable = true; s.touch(); return false }, false, false},
		"answer is lost": {nil, true, true},
	} {
		run(t, name, func(t *testing.T) {
			s := newServer()
			var patches atomic.Int32
			s.answer = func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method != "PATCH" || patches.Add(1) > 1 {
					return false
				}
				if test.meddle == nil {
					s.seen(func() { s.patch(lostAnswer{}, r) })
					cut(w)
				}
				s.seen(func() { test.meddle(s, w) })
				return false
			}
			n := s.connect(t, Settings{})
			if err := n.Drain(t.Context()); (err != nil) != test.fails {
				t.Fatalf("the drain: %v", err)
			}
			if !s.node.Spec.Unschedulable || cordonedByUs(&s.node) != test.ours {
				t.Errorf("unschedulable is %v, annotations are %v", s.node.Spec.Unschedulable, s.node.Annotations)
			}
			for range 2 {
				if err := n.Uncordon(t.Context(), true); err != nil {
					t.Fatal(err)
				}
				if s.node.Spec.Unschedulable == test.ours || len(s.node.Annotations) > 0 {
					t.Errorf("after the undo unschedulable is %v, annotations are %v", s.node.Spec.Unschedulable, s.node.Annotations)
				}
			}
		})
	}
}

// What an undo that was killed has left makes no difference.
func TestUndoGivesTheNodeANewVersionTwiceInASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		n := s.connect(t, Settings{})
		must.Do(t, n.refuseLateChanges(t.Context()))
		before := s.node.ResourceVersion
		time.Sleep(time.Millisecond)
		must.Do(t, n.refuseLateChanges(t.Context()))
		if s.node.ResourceVersion == before {
			t.Error("the node has the same version as before, which a late change would match")
		}
	})
}

// A drain is killed, or does not wait any longer, and the API server makes its change after the undo.
func TestChangeOfADrainThatComesAfterItsUndoIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		ctx, kill := context.WithCancel(t.Context())
		var late *http.Request
		s.answer = func(_ http.ResponseWriter, r *http.Request) bool {
			if r.Method != "PATCH" || late != nil {
				return false
			}
			body, err := io.ReadAll(r.Body)
			must.Do(t, err)
			late = r.Clone(t.Context())
			late.Body = io.NopCloser(bytes.NewReader(body))
			kill()
			return true
		}
		n := s.connect(t, Settings{})
		if err := n.Drain(ctx); err == nil {
			t.Fatal("the drain has succeeded")
		}
		must.Do(t, n.Uncordon(t.Context(), true))
		answer := httptest.NewRecorder()
		s.ServeHTTP(answer, late)
		if answer.Code != http.StatusConflict || s.node.Spec.Unschedulable || len(s.node.Annotations) > 0 {
			t.Errorf("the answer is %d; unschedulable is %v, annotations are %v", answer.Code, s.node.Spec.Unschedulable, s.node.Annotations)
		}
	})
}

// lostAnswer is an answer that nobody gets.
type lostAnswer struct{}

func (lostAnswer) Header() http.Header            { return http.Header{} }
func (lostAnswer) Write(data []byte) (int, error) { return len(data), nil }
func (lostAnswer) WriteHeader(int)                {}

func TestForcedDrainDeletes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const forceAfter = 5 * time.Minute
		s := newServer(pod("a"))
		var cordoned, deleted time.Time
		s.answer = func(w http.ResponseWriter, r *http.Request) bool {
			switch {
			case isEviction(r, "a"):
				refuse(w, 429, metav1.StatusReasonTooManyRequests, "Cannot evict pod", budgetCause(needs))
				return true
			case r.Method == "PATCH":
				cordoned = time.Now() // by the last change
			case r.Method == "DELETE":
				deleted = time.Now()
			}
			return false
		}
		must.Do(t, s.connect(t, Settings{ForceAfter: forceAfter, ExcludeFromLoadBalancers: true, LoadBalancerWait: time.Minute}).Drain(t.Context()))
		if after := deleted.Sub(cordoned); after < forceAfter || after > forceAfter+retryInterval {
			t.Errorf("the pod was deleted %v after the cordon, want %v, or the next attempt then", after, forceAfter)
		}
	})
}

// An API server that fails at the end is named beside what the program waits for.
func TestEndNamesAFailingAPIServer(t *testing.T) {
	const why = "not done within 1m0s (waiting for the API server: etcd is down)"
	for name, test := range map[string]struct {
		settings Settings
		want     string
	}{
		"pods": {Settings{}, "drain node web-1: " + why + ", 1 of 1 pod left: db/a: budget postgres-pdb allows none: it " + needs},
		"hooks": {Settings{FLUO: true, BeforeRebootAnnotations: []string{"example.com/a"}},
			"hooks have not set the annotation example.com/a=true: " + why},
	} {
		run(t, name, func(t *testing.T) {
			s := newServer(pod("a"))
			start := time.Now()
			s.answer = func(w http.ResponseWriter, r *http.Request) bool {
				switch {
				case time.Since(start) > 30*time.Second:
					refuse(w, 500, metav1.StatusReasonInternalError, "etcd is down")
				case isEviction(r, "a"):
					refuse(w, 429, metav1.StatusReasonTooManyRequests, "Cannot evict pod", budgetCause(needs))
				default:
					return false
				}
				return true
			}
			test.settings.Timeout = time.Minute
			if err := s.connect(t, test.settings).Drain(t.Context()); err == nil || err.Error() != test.want {
				t.Errorf("the error is\n%v, want\n%s", err, test.want)
			}
		})
	}
}

func TestEndedSaysWhy(t *testing.T) {
	late := errors.New("late")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 0, late)
	defer cancel()
	if got := ended(ctx); got != late {
		t.Errorf("%v, want %v", got, late)
	}
}
