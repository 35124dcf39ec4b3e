package node

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/locksmithd/locksmith/test/must"
)

func (s *server) setReady(status corev1.ConditionStatus, message, bootID string) {
	s.node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: status, Message: message}}
	s.node.Status.NodeInfo.BootID = bootID
}

// daemonPod returns a pod of a DaemonSet.
func daemonPod(name string, ready corev1.ConditionStatus) corev1.Pod {
	p := pod(name)
	p.OwnerReferences[0].Kind = "DaemonSet"
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: ready}}
	return p
}

func TestNodeIsBackWhenItIsReadySinceTheBoot(t *testing.T) {
	ending := daemonPod("ending", corev1.ConditionFalse)
	ending.DeletionTimestamp = &metav1.Time{Time: time.Now()}
	finished := daemonPod("finished", corev1.ConditionFalse)
	finished.Status.Phase = corev1.PodFailed
	settings := Settings{BootID: "now", ReadyTimeout: time.Minute, WaitDaemonSets: time.Minute}
	for name, test := range map[string]struct {
		prepare func(s *server, settings *Settings)
		want    string // error, "" for none
	}{
		"ready":                 {func(s *server, _ *Settings) { s.setReady("True", "", "now") }, ""},
		"boot id is not known":  {func(s *server, _ *Settings) { s.setReady("True", "", "") }, ""},
		"ready before the boot": {func(s *server, _ *Settings) { s.setReady("True", "", "then") }, "node web-1: its kubelet has not reported since the boot (waited 1m0s)"},
		"not ready":             {func(s *server, _ *Settings) { s.setReady("False", "no\nnetwork", "now") }, "node web-1 is not Ready: no network (waited 1m0s)"},
		"unknown":               {func(s *server, _ *Settings) { s.setReady("Unknown", "", "now") }, "node web-1 is not Ready: its kubelet has not said why (waited 1m0s)"},
		"never reported":        {func(*server, *Settings) {}, "node web-1 is not Ready: its kubelet has not said why (waited 1m0s)"},
		"DaemonSet pod fails": {func(s *server, _ *Settings) {
			s.setReady("True", "", "now")
			s.pods = []corev1.Pod{daemonPod("a", "True"), daemonPod("cni", "False")}
		}, "1 DaemonSet pod not ready: db/cni (waited 1m0s)"},
		"DaemonSets do not count": {func(s *server, settings *Settings) {
			s.setReady("True", "", "now")
			s.pods = []corev1.Pod{daemonPod("cni", "False")}
			settings.WaitDaemonSets = 0
		}, ""},
		"other pods": {func(s *server, _ *Settings) {
			s.setReady("True", "", "now")
			s.pods = []corev1.Pod{pod("a"), ending, finished}
		}, ""},
	} {
		run(t, name, func(t *testing.T) {
			s := newServer()
			cordon(&s.node, time.Now())
			settings := settings
			test.prepare(s, &settings)
			err := s.connect(t, settings).Uncordon(t.Context(), false)
			if test.want == "" && err != nil || test.want != "" && (err == nil || err.Error() != test.want) {
				t.Errorf("the error is %v, want %q", err, test.want)
			}
			if s.node.Spec.Unschedulable != (test.want != "") {
				t.Errorf("unschedulable is %v", s.node.Spec.Unschedulable)
			}
		})
	}
}

func TestNodeIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(daemonPod("cni", corev1.ConditionFalse))
		s.setReady("False", "no network", "then")
		cordon(&s.node, time.Now())
		var requests atomic.Int32
		s.answer = func(w http.ResponseWriter, r *http.Request) bool {
			switch requests.Add(1) {
			case 1:
				cut(w)
			case 3:
				s.seen(func() { s.setReady("False", "no network", "now") })
			case 5:
				s.seen(func() { s.setReady("True", "", "now") })
			case 8:
				s.seen(func() { s.pods[0] = daemonPod("cni", corev1.ConditionTrue) })
			}
			return false
		}
		n := s.connect(t, Settings{BootID: "now", ReadyTimeout: time.Minute, WaitDaemonSets: time.Minute})
		if err := n.Uncordon(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		all := strings.Join(s.statuses, "\n")
		for _, want := range []string{"unexpected EOF", "has not reported since the boot", "waiting: node web-1 is not Ready: no network", "waiting: 1 DaemonSet pod not ready: db/cni"} {
			if !strings.Contains(all, want) {
				t.Errorf("no status says %q:\n%s", want, all)
			}
		}
		if s.node.Spec.Unschedulable {
			t.Error("the node is still cordoned")
		}
	})
}

func TestUndoDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		s.setReady("False", "no network", "then")
		cordon(&s.node, time.Now())
		if err := s.connect(t, Settings{BootID: "now"}).Uncordon(t.Context(), true); err != nil || s.node.Spec.Unschedulable {
			t.Errorf("%v, unschedulable is %v", err, s.node.Spec.Unschedulable)
		}
	})
}

func TestCordonOfAnAdministratorStays(t *testing.T) {
	for name, ours := range map[string]bool{"the same": true, "a later": false} {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{}}}
		node.Spec.Unschedulable = !ours
		cordon(node, time.Now())
		if uncordon(node); node.Spec.Unschedulable == ours || len(node.Annotations) > 0 {
			t.Errorf("%s: unschedulable is %v, annotations are %v", name, node.Spec.Unschedulable, node.Annotations)
		}
	}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{}}}
	cordon(node, time.Now())
	node.Spec.Unschedulable = false // by hand
	cordon(node, time.Now())
	if !cordonedByUs(node) {
		t.Error("a cordon after that of before was lifted by hand is not ours")
	}
}

func TestMayReboot(t *testing.T) {
	job := pod("job")
	job.Labels = map[string]string{"app": "job"}
	done := job
	done.Status.Phase = corev1.PodSucceeded
	for name, test := range map[string]struct {
		settings Settings
		prepare  func(s *server)
		want     string
	}{
		"nothing against it":    {Settings{}, func(s *server) { s.pods = []corev1.Pod{job} }, ""},
		"paused":                {Settings{}, func(s *server) { s.node.Annotations[fluoPaused] = "true" }, "node web-1 has the annotation flatcar-linux-update.v1.flatcar-linux.net/reboot-paused=true"},
		"paused by a label":     {Settings{}, func(s *server) { s.node.Labels[fluoPaused] = "true" }, "node web-1 has the label flatcar-linux-update.v1.flatcar-linux.net/reboot-paused=true"},
		"no longer paused":      {Settings{}, func(s *server) { s.node.Annotations[fluoPaused] = "false" }, ""},
		"pod":                   {blockedBy(t, "app=web", "app in (job)"), func(s *server) { s.pods = []corev1.Pod{job, pod("a")} }, "1 pod with app in (job) on node web-1: db/job"},
		"pod that has finished": {blockedBy(t, "app=job"), func(s *server) { s.pods = []corev1.Pod{done} }, ""},
	} {
		run(t, name, func(t *testing.T) {
			s := newServer()
			test.prepare(s)
			if got, err := s.connect(t, test.settings).MayReboot(t.Context()); got != test.want || err != nil {
				t.Errorf("%q, %v, want %q", got, err, test.want)
			}
		})
	}
}

func TestMinReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := func(name string, ready corev1.ConditionStatus, cordoned bool) corev1.Node {
			return corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{Unschedulable: cordoned}, Status: corev1.NodeStatus{
				Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}},
			}}
		}
		s := newServer()
		forbidden := false
		s.answer = func(w http.ResponseWriter, r *http.Request) bool {
			switch {
			case r.URL.Path != "/api/v1/nodes":
				return false
			case forbidden:
				refuse(w, 403, metav1.StatusReasonForbidden, "node 'web-1' cannot read all nodes, only its own Node object")
			default:
				send(w, 200, corev1.NodeList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "NodeList"}, Items: []corev1.Node{
					node("web-1", "True", false), node("web-2", "True", false), node("web-3", "False", false), node("web-4", "True", true), node("web-5", "True", false),
				}})
			}
			return true
		}
		for n, want := range map[int]string{0: "", 2: "", 3: "only 2 nodes beside web-1 Ready and not cordoned, --min-ready is 3"} {
			if got, err := s.connect(t, Settings{MinReady: n}).MayReboot(t.Context()); got != want || err != nil {
				t.Errorf("at least %d: %q, %v, want %q", n, got, err, want)
			}
		}
		forbidden = true
		_, err := s.connect(t, Settings{MinReady: 1}).MayReboot(t.Context())
		oneLineWith(t, err, "--min-ready has to list all nodes, which a kubelet may not", "--kubeconfig")
	})
}

func TestMayRebootWithoutAnAnswerIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		s.answer = func(w http.ResponseWriter, _ *http.Request) bool { cut(w); return true }
		got, err := s.connect(t, Settings{}).MayReboot(t.Context())
		if got != "" || err == nil {
			t.Errorf("%q, %v", got, err)
		}
		if want := fmt.Sprintf("read node web-1: %s: ", "http://server"); !strings.HasPrefix(err.Error(), want) {
			t.Errorf("the error is %v, want %s...", err, want)
		}
	})
}

func TestNodeThatMayNotBeReadIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		s.answer = func(w http.ResponseWriter, _ *http.Request) bool {
			refuse(w, 403, metav1.StatusReasonForbidden, "User \"x\" cannot do that")
			return true
		}
		start := time.Now()
		oneLineWith(t, s.connect(t, Settings{ReadyTimeout: time.Minute}).Uncordon(t.Context(), false), `User "x" cannot do that`)
		if waited := time.Since(start); waited > 0 {
			t.Errorf("it has waited for %v", waited)
		}
	})
}

// A host that is not well takes another version: what hooks have said after the first boot does not count after the second.
func TestHooksRunAgainAfterASecondReboot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		s.setReady("True", "", "now")
		n := s.connect(t, Settings{
			FLUO: true, ReadyTimeout: time.Minute, AfterRebootAnnotations: []string{"example.com/disk", "example.com/network"},
		})
		must.Do(t, n.Drain(t.Context()))
		s.answer = func(http.ResponseWriter, *http.Request) bool {
			s.seen(func() { s.node.Annotations["example.com/disk"] = "true" })
			return false
		}
		oneLineWith(t, n.Uncordon(t.Context(), false), "hooks have not set the annotation example.com/network=true")
		s.answer = nil
		must.Do(t, n.Drain(t.Context()))
		oneLineWith(t, n.Uncordon(t.Context(), false), "hooks have not set the annotation example.com/disk, example.com/network=true")
	})
}

// Only an answer of the API server itself, to the node's own credentials, says that the node was deleted.
func TestUndoOfANodeThatWasDeleted(t *testing.T) {
	gone := func(w http.ResponseWriter) { refuse(w, 404, metav1.StatusReasonNotFound, `nodes "web-1" not found`) }
	page := func(w http.ResponseWriter) { http.Error(w, "404 page not found", http.StatusNotFound) }
	for name, test := range map[string]struct {
		own      bool
		notFound func(w http.ResponseWriter)
		method   string // of the first request that is not answered with the node
		want     string // error, "" for none
	}{
		"before the undo":      {true, gone, "GET", ""},
		"in the undo":          {true, gone, "PATCH", ""},
		"other credentials":    {false, gone, "GET", "node web-1 does not exist at http://server: check --node and --kubeconfig"},
		"page of a web server": {true, page, "GET", "node web-1 does not exist at http://server: check --node and --kubeconfig"},
	} {
		run(t, name, func(t *testing.T) {
			s := newServer()
			deleted := false
			s.answer = func(w http.ResponseWriter, r *http.Request) bool {
				if deleted = deleted || r.Method == test.method; deleted {
					test.notFound(w)
				}
				return deleted
			}
			n := s.connect(t, Settings{ReadyTimeout: time.Minute})
			n.own = test.own
			err := n.Uncordon(t.Context(), true)
			if test.want == "" && err != nil || test.want != "" && (err == nil || err.Error() != test.want) {
				t.Errorf("the error is %v, want %q", err, test.want)
			}
			oneLineWith(t, n.Uncordon(t.Context(), false), "node web-1 does not exist at http://server", "(waited 1m0s)")
		})
	}
}
