package kubetest

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"

	"github.com/locksmithd/locksmith/test/must"
)

// pod returns a pod as it is now.
func pod(t *testing.T, c *Cluster, name string) *corev1.Pod {
	t.Helper()
	p, err := c.Admin.Core.Pods(metav1.NamespaceDefault).Get(t.Context(), name, metav1.GetOptions{})
	must.Do(t, err)
	return p
}

// evict asks for the eviction of a pod with a kubelet's rights.
func evict(ctx context.Context, n *Node, p *corev1.Pod) error {
	return n.Kubelet.Core.Pods(p.Namespace).EvictV1(ctx, &policyv1.Eviction{
		ObjectMeta:    metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name},
		DeleteOptions: &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &p.UID}},
	})
}

// bound returns a pod for a node.
func bound(n *Node, name string) *corev1.Pod {
	p := Pod(metav1.NamespaceDefault, name)
	p.Spec.NodeName = n.Name
	return p
}

func gone(pods []*corev1.Pod) bool { return len(pods) == 0 }

func TestKubeletHasTheRightsOfAKubeletAndNoOthers(t *testing.T) {
	c := MustStart(t)
	one, two := c.MustAddNode(t, "node-1"), c.MustAddNode(t, "node-2")
	c.MustCreate(t, bound(one, "own"), bound(two, "other"), DaemonSet(metav1.NamespaceDefault, "agent"))
	must.Do(t, one.CreateMirrorPod(t.Context(), metav1.NamespaceDefault, "static"))
	c.MustAwaitPods(t, metav1.NamespaceDefault, "all pods", AllReady(5))

	forbidden := func(what, message string, err error) {
		t.Helper()
		if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), message) {
			t.Errorf("%s: the answer is %v, want 403 with %q", what, err, message)
		}
	}
	_, err := one.Kubelet.Apps.DaemonSets(metav1.NamespaceDefault).Get(t.Context(), "agent", metav1.GetOptions{})
	forbidden("read a DaemonSet", `cannot get resource "daemonsets"`, err)
	_, err = one.Kubelet.Policy.PodDisruptionBudgets(metav1.NamespaceDefault).List(t.Context(), metav1.ListOptions{})
	forbidden("read budgets", `cannot list resource "poddisruptionbudgets"`, err)
	_, err = one.Kubelet.Core.Pods("").List(t.Context(), metav1.ListOptions{})
	forbidden("list the pods of all nodes", "can only list/watch pods with spec.nodeName field selector", err)
	_, err = one.Kubelet.Core.Nodes().List(t.Context(), metav1.ListOptions{})
	forbidden("list all nodes", "cannot read all nodes, only its own Node object", err)
	_, err = one.Kubelet.Core.Nodes().Get(t.Context(), "node-2", metav1.GetOptions{})
	forbidden("read another node", "cannot read 'node-2', only its own Node object", err)
	forbidden("evict another node's pod", "can only evict pods with spec.nodeName set to itself", evict(t.Context(), one, pod(t, c, "other")))

	patch := func(node, body string) error {
		_, err := one.Kubelet.Core.Nodes().Patch(t.Context(), node, types.MergePatchType, []byte(body), metav1.PatchOptions{})
		return err
	}
	forbidden("cordon another node", "", patch("node-2", `{"spec":{"unschedulable":true}}`))
	forbidden("taint its own node", "is not allowed to modify taints", patch("node-1", `{"spec":{"taints":[{"key":"a","effect":"NoSchedule"}]}}`))
	must.Do(t, patch("node-1", `{"spec":{"unschedulable":true},"metadata":{"annotations":{"example.com/a":"b"},"labels":{"example.com/c":"d"}}}`))
	label := func(key string) error { return patch("node-1", `{"metadata":{"labels":{"`+key+`":"a"}}}`) }
	for _, key := range []string{
		corev1.LabelNodeExcludeBalancers, "node.kubernetes.io/a", "a.node.kubernetes.io/b", "kubelet.kubernetes.io/a", "example.com/a",
	} {
		must.Do(t, label(key))
	}
	for _, key := range []string{
		"kubernetes.io/a", "a.kubernetes.io/b", "k8s.io/a", "a.k8s.io/b", "node-role.kubernetes.io/a", corev1.LabelNamespaceNodeRestriction + "/a",
	} {
		forbidden("set the label "+key, "is not allowed to modify labels: "+key, label(key))
	}
	c.MustAwaitNode(t, "node-1", "the kubelet's cordon", func(n *corev1.Node) bool {
		return n.Spec.Unschedulable && n.Annotations["example.com/a"] == "b" && n.Labels["example.com/c"] == "d"
	})

	must.Do(t, evict(t.Context(), one, pod(t, c, "own")))
	c.MustAwaitPods(t, metav1.NamespaceDefault, "the end of the kubelet's own pod", func(pods []*corev1.Pod) bool {
		return !slices.ContainsFunc(pods, func(p *corev1.Pod) bool { return p.Name == "own" }) && len(pods) == 4
	})
}

func TestBudgetIsKeptAndNamed(t *testing.T) {
	c := MustStart(t)
	one := c.MustAddNode(t, "node-1")
	c.MustCreate(t, ReplicaSet(metav1.NamespaceDefault, "db", 2), Budget(metav1.NamespaceDefault, "db", "2"))
	c.MustAwaitPods(t, metav1.NamespaceDefault, "two pods", AllReady(2))
	allowed := func(n int32) func(*policyv1.PodDisruptionBudget) bool {
		return func(b *policyv1.PodDisruptionBudget) bool {
			return b.Status.CurrentHealthy == n+2 && b.Status.DisruptionsAllowed == n
		}
	}
	c.MustAwaitBudget(t, metav1.NamespaceDefault, "db", "the budget to allow none", allowed(0))
	pods, err := c.Admin.Core.Pods(metav1.NamespaceDefault).List(t.Context(), metav1.ListOptions{})
	must.Do(t, err)
	err = evict(t.Context(), one, &pods.Items[0])
	cause, found := apierrors.StatusCause(err, policyv1.DisruptionBudgetCause)
	if !apierrors.IsTooManyRequests(err) || !found || !strings.Contains(cause.Message, "budget db needs 2 healthy pods and has 2 currently") {
		t.Errorf("the answer is %v (%v), want 429 with the name of the budget", err, cause)
	}
	_, err = c.Admin.Apps.ReplicaSets(metav1.NamespaceDefault).Patch(t.Context(), "db", types.MergePatchType, []byte(`{"spec":{"replicas":3}}`), metav1.PatchOptions{})
	must.Do(t, err)
	c.MustAwaitBudget(t, metav1.NamespaceDefault, "db", "the budget to allow one", allowed(1))
	must.Do(t, evict(t.Context(), one, &pods.Items[0]))
}

func TestPodsRunAndEndAsTheStandInsSay(t *testing.T) {
	c := MustStart(t)
	one, two := c.MustAddNode(t, "node-1"), c.MustAddNode(t, "node-2")
	_, err := c.Admin.Core.Nodes().Patch(t.Context(), two.Name, types.MergePatchType, []byte(`{"spec":{"unschedulable":true}}`), metav1.PatchOptions{})
	must.Do(t, err)
	c.MustAwaitNode(t, two.Name, "the cordon and its taint", func(n *corev1.Node) bool { return len(n.Spec.Taints) == 1 })
	c.MustCreate(t, ReplicaSet(metav1.NamespaceDefault, "web", 4))
	onNode := func(name string, n int) func([]*corev1.Pod) bool {
		return func(pods []*corev1.Pod) bool {
			return len(pods) == n && !slices.ContainsFunc(pods, func(p *corev1.Pod) bool { return !Ready(p) || p.Spec.NodeName != name })
		}
	}
	c.MustAwaitPods(t, metav1.NamespaceDefault, "the pods on the node that is not cordoned", onNode(one.Name, 4))

	one.HoldPods()
	must.Do(t, one.SetReady(t.Context(), false))
	_, err = c.Admin.Core.Nodes().Patch(t.Context(), two.Name, types.MergePatchType, []byte(`{"spec":{"unschedulable":false}}`), metav1.PatchOptions{})
	must.Do(t, err)
	must.Do(t, c.Admin.Core.Pods(metav1.NamespaceDefault).DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}))
	c.MustAwaitPods(t, metav1.NamespaceDefault, "other pods elsewhere, with the old ones held", func(pods []*corev1.Pod) bool {
		ending := func(p *corev1.Pod) bool { return p.Spec.NodeName == one.Name }
		return len(pods) == 8 && onNode(two.Name, 4)(slices.DeleteFunc(slices.Clone(pods), ending))
	})
	one.Stop()
	one.ReleasePods()
	one.EndPodsAfter(50 * time.Millisecond)
	one.Start()
	c.MustAwaitPods(t, metav1.NamespaceDefault, "the end of the old pods", onNode(two.Name, 4))

	stuck := bound(two, "stuck")
	stuck.Finalizers = []string{"example.com/never"}
	unready := bound(two, "unready")
	unready.Annotations = map[string]string{UnreadyAnnotation: "true"}
	c.MustCreate(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "more"}})
	stuck.Namespace, unready.Namespace = "more", "more"
	c.MustCreate(t, stuck, unready)
	c.MustAwaitPods(t, "more", "a pod that runs and is not ready", func(pods []*corev1.Pod) bool {
		return slices.ContainsFunc(pods, func(p *corev1.Pod) bool {
			return p.Name == "unready" && p.Status.Phase == corev1.PodRunning && !Ready(p)
		})
	})
	must.Do(t, c.Admin.Core.Pods("more").Delete(t.Context(), "stuck", metav1.DeleteOptions{}))
	c.MustAwaitPods(t, "more", "a pod that its finalizer keeps", func(pods []*corev1.Pod) bool {
		return slices.ContainsFunc(pods, func(p *corev1.Pod) bool {
			return p.Name == "stuck" && p.Status.Phase == corev1.PodSucceeded && p.DeletionTimestamp != nil
		})
	})
}

func TestAPIServerComesBackWithItsDataAndAddress(t *testing.T) {
	c := MustStart(t)
	one := c.MustAddNode(t, "node-1")
	c.MustCreate(t, bound(one, "before"))
	c.MustAwaitPods(t, metav1.NamespaceDefault, "a pod", AllReady(1))
	c.StopAPIServer()
	if _, err := c.Admin.Core.Nodes().List(t.Context(), metav1.ListOptions{}); err == nil {
		t.Error("an API server that was killed answers")
	}
	must.Do(t, c.RestartAPIServer(t.Context()))
	c.MustCreate(t, bound(one, "after"))
	c.MustAwaitPods(t, metav1.NamespaceDefault, "the pods of before and after", AllReady(2))

	must.Do(t, c.PauseAPIServer(t.Context()))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := c.Admin.Core.Nodes().List(ctx, metav1.ListOptions{}); err == nil {
		t.Error("an API server that is paused answers")
	}
	must.Do(t, c.ResumeAPIServer(t.Context()))
	must.Do(t, c.Admin.Core.Pods(metav1.NamespaceDefault).DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}))
	c.MustAwaitPods(t, metav1.NamespaceDefault, "the end of the pods", gone)
}

func TestProxyTellsWhoItsClientIsAndMakesFaults(t *testing.T) {
	c := MustStart(t)
	one := c.MustAddNode(t, "node-1")
	p := c.MustProxy(t)
	path := t.TempDir() + "/kubelet.conf"
	must.Do(t, one.WriteKubeconfig(path, p.URL))
	clients, err := newClients(path)
	must.Do(t, err)
	review, err := clients.Core.RESTClient().Post().AbsPath("/apis/authentication.k8s.io/v1/selfsubjectreviews").
		Body([]byte(`{"kind":"SelfSubjectReview","apiVersion":"authentication.k8s.io/v1"}`)).DoRaw(t.Context())
	must.Do(t, err)
	var answer struct {
		Status struct {
			UserInfo struct {
				Username string
				Groups   []string
			}
		}
	}
	must.Do(t, json.Unmarshal(review, &answer))
	if user := answer.Status.UserInfo; user.Username != "system:node:node-1" || !slices.Contains(user.Groups, "system:nodes") {
		t.Errorf("the API server takes the client for %s", review)
	}
	_, err = clients.Core.Nodes().Get(t.Context(), "node-1", metav1.GetOptions{})
	must.Do(t, err)
	p.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		Refuse(w, http.StatusInternalServerError, "out of order")
		return true
	})
	if _, err = clients.Core.Nodes().Get(t.Context(), "node-1", metav1.GetOptions{}); !apierrors.IsInternalError(err) || !strings.Contains(err.Error(), "out of order") {
		t.Errorf("the answer is %v", err)
	}
	p.Intercept(nil)
	_, err = clients.Core.Nodes().Get(t.Context(), "node-1", metav1.GetOptions{})
	must.Do(t, err)
	gets := 0
	for _, r := range p.Requests() {
		if r.Method == http.MethodGet && r.Path == "/api/v1/nodes/node-1" {
			gets++
		}
	}
	if gets != 3 {
		t.Errorf("the proxy has counted %d reads of the node, want 3: %v", gets, p.Requests())
	}

	must.Do(t, one.Rotate())
	// From data, because clients that have read the same file share a connection, with the certificate that it began with.
	config := rest.CopyConfig(clients.Config)
	config.CertFile, config.KeyFile = "", ""
	config.CertData, err = os.ReadFile(one.Certificate)
	must.Do(t, err)
	config.KeyData = config.CertData
	rotated, err := corev1client.NewForConfig(config)
	must.Do(t, err)
	_, err = rotated.Nodes().Get(t.Context(), "node-1", metav1.GetOptions{})
	must.Do(t, err)
	if first, last := p.Requests()[0], p.Requests()[len(p.Requests())-1]; first.Serial == last.Serial {
		t.Errorf("the new certificate has the serial number of the old one: %s", last.Serial)
	}
}
