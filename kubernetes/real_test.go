package main_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/locksmithd/locksmith/kubernetes/kubetest"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
)

// The annotation that remembers a cordon of the program.
const cordonedAnnotation = "locksmith.locksmithd.io/cordoned"

// namespace is where the pods of a test are.
const namespace = metav1.NamespaceDefault

// cluster is a cluster with the nodes node-1, which is to be drained, and node-2.
type cluster struct {
	*kubetest.Cluster
	one, two *kubetest.Node
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	t.Parallel()
	c := kubetest.MustStart(t)
	return &cluster{c, c.MustAddNode(t, "node-1"), c.MustAddNode(t, "node-2")}
}

// adminPatch changes a node as the administrator.
func (c *cluster) adminPatch(t *testing.T, node, patch string) {
	t.Helper()
	_, err := c.Admin.Core.Nodes().Patch(t.Context(), node, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	must.Do(t, err)
}

func (c *cluster) cordon(t *testing.T, node string) {
	t.Helper()
	c.adminPatch(t, node, `{"spec":{"unschedulable":true}}`)
}

func (c *cluster) uncordon(t *testing.T, node string) {
	t.Helper()
	c.adminPatch(t, node, `{"spec":{"unschedulable":false}}`)
}

// onNodeOne starts controllers with n pods together, which all run on node-1.
func (c *cluster) onNodeOne(t *testing.T, n int, controllers ...runtime.Object) {
	t.Helper()
	c.cordon(t, c.two.Name)
	c.MustAwaitNode(t, c.two.Name, "the cordon of node-2", func(node *corev1.Node) bool { return len(node.Spec.Taints) == 1 })
	c.MustCreate(t, controllers...)
	c.MustAwaitPods(t, "", fmt.Sprintf("%d pods on node-1", n), allOn("node-1", n))
	c.uncordon(t, c.two.Name)
}

// allOn holds when there are n pods, all ready and on a node.
func allOn(node string, n int) func([]*corev1.Pod) bool {
	return func(pods []*corev1.Pod) bool {
		return kubetest.AllReady(n)(pods) && !slices.ContainsFunc(pods, func(p *corev1.Pod) bool { return p.Spec.NodeName != node })
	}
}

// cordoned fails unless node-1 is cordoned by the program.
func (c *cluster) cordoned(t *testing.T) {
	t.Helper()
	if node := c.node(t); !node.Spec.Unschedulable || node.Annotations[cordonedAnnotation] == "" {
		t.Errorf("node-1 is not cordoned by the program: unschedulable %v, annotations %v", node.Spec.Unschedulable, node.Annotations)
	}
}

// untouched fails unless node-1 is as it was before the program.
func (c *cluster) untouched(t *testing.T) {
	t.Helper()
	c.has(t, "afterwards", nil)
	if c.node(t).Spec.Unschedulable {
		t.Error("node-1 is cordoned")
	}
}

// otherPods returns the UIDs of the pods on node-1 that do not belong to an app, by name. The pod of a DaemonSet is
// replaced when it is evicted: only its name and UID tell.
func (c *cluster) otherPods(t *testing.T, app string) map[string]types.UID {
	t.Helper()
	list, err := c.Admin.Core.Pods(namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "app!=" + app, FieldSelector: "spec.nodeName=node-1"})
	must.Do(t, err)
	uids := map[string]types.UID{}
	for _, pod := range list.Items {
		if pod.DeletionTimestamp == nil {
			uids[pod.Name] = pod.UID
		}
	}
	return uids
}

func (c *cluster) node(t *testing.T) *corev1.Node {
	t.Helper()
	node, err := c.Admin.Core.Nodes().Get(t.Context(), c.one.Name, metav1.GetOptions{})
	must.Do(t, err)
	return node
}

// proxied returns a proxy, and the path of the kubelet's kubeconfig for it.
func (c *cluster) proxied(t *testing.T) (*kubetest.Proxy, string) {
	t.Helper()
	p := c.MustProxy(t)
	path := filepath.Join(t.TempDir(), "kubelet.conf")
	must.Do(t, c.one.WriteKubeconfig(path, p.URL))
	return p, path
}

// heldDrain starts a drain of n pods, which do not end until ReleasePods, and waits until it waits for all of them.
func (c *cluster) heldDrain(t *testing.T, kubeconfig string, n int) *program {
	t.Helper()
	c.one.HoldPods()
	drain := start(t, kubeconfig, "drain")
	drain.awaitStatus(t, fmt.Sprintf("evicting %d of %[1]d pod", n))
	return drain
}

func isEviction(r *http.Request) bool {
	return r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/eviction")
}

// A budget allows none, then some: the drain goes on, and the pods never are fewer than it demands.
func TestDrainKeepsBudgets(t *testing.T) {
	c := newCluster(t)
	c.MustCreate(t, kubetest.Budget(namespace, "db", "3"), kubetest.DaemonSet(namespace, "agent"))
	must.Do(t, c.one.CreateMirrorPod(t.Context(), namespace, "static-node-1"))
	db := func(pods []*corev1.Pod) []*corev1.Pod {
		return slices.DeleteFunc(slices.Clone(pods), func(p *corev1.Pod) bool { return p.Labels["app"] != "db" })
	}
	c.MustCreate(t, kubetest.ReplicaSet(namespace, "db", 3))
	c.MustAwaitPods(t, namespace, "3 pods, and 3 that belong to nodes", kubetest.AllReady(6))
	c.MustAwaitBudget(t, namespace, "db", "the budget to allow none", func(b *policyv1.PodDisruptionBudget) bool {
		return b.Status.CurrentHealthy == 3 && b.Status.DisruptionsAllowed == 0
	})
	others := c.otherPods(t, "db")
	if len(others) != 2 {
		t.Fatalf("the other pods on node-1 are %v, want that of the DaemonSet and the static one", others)
	}
	watch, stop := context.WithCancel(t.Context())
	defer stop()
	fewest, watched := 3, make(chan struct{})
	go func() {
		defer close(watched)
		_ = c.AwaitPods(watch, namespace, "the end of the test", func(pods []*corev1.Pod) bool {
			healthy := 0
			for _, p := range db(pods) {
				if kubetest.Ready(p) && p.DeletionTimestamp == nil {
					healthy++
				}
			}
			fewest = min(fewest, healthy)
			return false
		})
	}()

	drain := start(t, c.one.Kubeconfig, "drain")
	drain.awaitStatus(t, "budget db allows none: it needs 3 healthy pods and has 3 currently")
	c.cordoned(t)
	_, err := c.Admin.Apps.ReplicaSets(namespace).Patch(t.Context(), "db", types.MergePatchType, []byte(`{"spec":{"replicas":4}}`), metav1.PatchOptions{})
	must.Do(t, err)
	drain.succeed(t)
	c.MustAwaitPods(t, namespace, "all pods on node-2", func(pods []*corev1.Pod) bool { return allOn("node-2", 4)(db(pods)) })
	if left := c.otherPods(t, "db"); !maps.Equal(left, others) {
		t.Errorf("after the drain the other pods on node-1 are %v, want the same as before: %v", left, others)
	}
	stop()
	<-watched
	if fewest < 3 {
		t.Errorf("there were only %d healthy pods, and the budget demands 3", fewest)
	}
	start(t, c.one.Kubeconfig, "uncordon").succeed(t)
	c.untouched(t)
}

// The status says how many pods are left, and what holds up the first of them.
func TestStatusSaysWhatIsWaitedFor(t *testing.T) {
	c := newCluster(t)
	budget := kubetest.Budget("db", "postgres", "3")
	budget.Name = "postgres-pdb"
	c.MustCreate(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "db"}}, budget)
	c.onNodeOne(t, 41, kubetest.ReplicaSet(namespace, "web", 38), kubetest.StatefulSet("db", "postgres", 3))
	c.MustAwaitBudget(t, "db", "postgres-pdb", "the budget to allow none", func(b *policyv1.PodDisruptionBudget) bool {
		return b.Status.CurrentHealthy == 3 && b.Status.DisruptionsAllowed == 0
	})
	drain := start(t, c.one.Kubeconfig, "drain")
	drain.awaitStatus(t, "evicting 3 of 41 pods; waiting for db/postgres-0: budget postgres-pdb allows none: it needs 3 healthy pods and has 3 currently")
	must.Do(t, drain.Signal(syscall.SIGTERM))
	drain.fail(t, "drain node node-1: stopped, 3 of 41 pods left: db/postgres-0: budget postgres-pdb allows none")
}

// The API server evicts no pod that two budgets match: the drain says so, and goes on when one of them is gone.
func TestPodWithTwoBudgets(t *testing.T) {
	c := newCluster(t)
	second := kubetest.Budget(namespace, "db", "0")
	second.Name = "second"
	c.MustCreate(t, kubetest.Budget(namespace, "db", "0"), second)
	c.onNodeOne(t, 1, kubetest.StatefulSet(namespace, "db", 1))
	drain := start(t, c.one.Kubeconfig, "drain")
	drain.awaitStatus(t, "evicting 1 of 1 pod; waiting for default/db-0: This pod has more than one PodDisruptionBudget")
	must.Do(t, c.Admin.Policy.PodDisruptionBudgets(namespace).Delete(t.Context(), "second", metav1.DeleteOptions{}))
	// The disruption controller may have counted the pod only for the budget that is gone. A change makes it count again.
	_, err := c.Admin.Policy.PodDisruptionBudgets(namespace).Patch(t.Context(), "db", types.MergePatchType,
		[]byte(`{"metadata":{"annotations":{"example.com/count":"again"}}}`), metav1.PatchOptions{})
	must.Do(t, err)
	drain.succeed(t)
	c.MustAwaitPods(t, namespace, "the pod on node-2", allOn("node-2", 1))
}

// A budget that never allows any: the drain fails in time, says why, and is undone.
func TestDrainFailsAtItsTimeOutAndIsUndone(t *testing.T) {
	c := newCluster(t)
	c.MustCreate(t, kubetest.Budget(namespace, "db", "100%"))
	c.onNodeOne(t, 1, kubetest.StatefulSet(namespace, "db", 1))
	start(t, c.one.Kubeconfig, "drain", "--timeout=2s").
		fail(t, "drain node node-1: not done within 2s, 1 of 1 pod left: default/db-0: budget db allows none: it needs 1 healthy pods and has 1 currently")
	c.cordoned(t)
	start(t, c.one.Kubeconfig, "uncordon", "--cancelled").succeed(t)
	c.untouched(t)

	// By force it goes.
	start(t, c.one.Kubeconfig, "drain", "--timeout=1m", "--force-after=1s").succeed(t)
	c.MustAwaitPods(t, namespace, "the pod on node-2", allOn("node-2", 1))
}

// A pod that is not to be evicted by default stops the drain before it has changed anything.
func TestDrainRefusesWhatWouldBeLost(t *testing.T) {
	c := newCluster(t)
	alone := kubetest.Pod(namespace, "alone")
	alone.Spec.NodeName = c.one.Name
	cache := kubetest.ReplicaSet(namespace, "cache", 1)
	cache.Spec.Template.Spec.Volumes = []corev1.Volume{{Name: "scratch", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	c.onNodeOne(t, 1, cache)
	c.MustCreate(t, alone)
	c.MustAwaitPods(t, namespace, "both pods", allOn("node-1", 2))
	start(t, c.one.Kubeconfig, "drain").fail(t, "default/alone has no controller", "default/cache-", "has an emptyDir volume")
	c.untouched(t)
	start(t, c.one.Kubeconfig, "drain", "--force", "--delete-emptydir-data").succeed(t)
	c.MustAwaitPods(t, namespace, "one pod, on node-2", allOn("node-2", 1))
}

// The flags of kubectl choose pods, and how long they have to end.
func TestDrainEvictsWhatItsFlagsSay(t *testing.T) {
	c := newCluster(t)
	c.MustCreate(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "skipped"}})
	c.onNodeOne(t, 3, kubetest.StatefulSet(namespace, "go", 1), kubetest.StatefulSet(namespace, "stay", 1), kubetest.StatefulSet("skipped", "go", 1))
	c.one.HoldPods()
	drain := start(t, c.one.Kubeconfig, "drain", "--pod-selector=app=go", "--skip-namespaces=skipped", "--grace-period=7")
	drain.awaitStatus(t, "evicting 1 of 1 pod; waiting for default/go-0: ending")
	pod, err := c.Admin.Core.Pods(namespace).Get(t.Context(), "go-0", metav1.GetOptions{})
	must.Do(t, err)
	if pod.DeletionGracePeriodSeconds == nil {
		t.Error("the pod is not being deleted")
	} else if grace := *pod.DeletionGracePeriodSeconds; grace != 7 {
		t.Errorf("the pod has %d s to end, want 7", grace)
	}
	c.one.ReleasePods()
	drain.succeed(t)
	c.MustAwaitPods(t, "", "one pod on node-2", func(pods []*corev1.Pod) bool {
		return kubetest.AllReady(3)(pods) && !slices.ContainsFunc(pods, func(p *corev1.Pod) bool {
			return (p.Spec.NodeName == "node-2") != (p.Namespace == namespace && p.Name == "go-0")
		})
	})
}

// What FLUO, kured and load balancers look for may be set by a kubelet.
func TestConventionsOfOthers(t *testing.T) {
	c := newCluster(t)
	environ := []string{
		"LOCKSMITH_VERSION=4500.0.0",
		"LOCKSMITH_KUBERNETES_FLUO=true",
		"LOCKSMITH_KUBERNETES_KURED=true",
		"LOCKSMITH_KUBERNETES_EXCLUDE_FROM_LOAD_BALANCERS=true",
		"LOCKSMITH_KUBERNETES_BEFORE_REBOOT_ANNOTATIONS=example.com/saved",
		"LOCKSMITH_KUBERNETES_AFTER_REBOOT_ANNOTATIONS=example.com/restored",
		"LOCKSMITH_KUBERNETES_PRE_REBOOT_NODE_LABELS=example.com/reboot=soon",
		"LOCKSMITH_KUBERNETES_POST_REBOOT_NODE_LABELS=example.com/reboot=done",
	}
	drain := startWith(t, environ, c.one.Kubeconfig, "drain")
	drain.awaitStatus(t, "waiting for hooks to set the annotation example.com/saved=true")
	set := map[string]string{
		"label fluo/before-reboot": "true", "label fluo/reboot-needed": "true", "label example.com/reboot": "soon",
		"label " + corev1.LabelNodeExcludeBalancers: "true", "locksmith.locksmithd.io/excluded-from-load-balancers": "*",
		"fluo/reboot-needed": "true", "fluo/status": "UPDATE_STATUS_UPDATED_NEED_REBOOT", "fluo/new-version": "4500.0.0",
		"weave.works/kured-reboot-in-progress": "*", "weave.works/kured-most-recent-reboot-needed": "*",
	}
	c.has(t, "before the cordon", set)
	if c.node(t).Spec.Unschedulable {
		t.Error("node-1 is cordoned while hooks run")
	}
	c.adminPatch(t, c.one.Name, `{"metadata":{"annotations":{"example.com/saved":"true"}}}`)
	drain.succeed(t)
	delete(set, "label fluo/before-reboot")
	maps.Copy(set, map[string]string{
		"fluo/reboot-ok": "true", "fluo/reboot-in-progress": "true", "fluo/agent-made-unschedulable": "true", cordonedAnnotation: "*",
	})
	c.has(t, "after the drain", set)
	c.cordoned(t)

	uncordon := startWith(t, environ, c.one.Kubeconfig, "uncordon")
	uncordon.awaitStatus(t, "waiting for hooks to set the annotation example.com/restored=true")
	maps.Copy(set, map[string]string{
		"label fluo/after-reboot": "true", "label fluo/reboot-needed": "false",
		"fluo/reboot-needed": "false", "fluo/reboot-in-progress": "false",
	})
	c.has(t, "while hooks run after the reboot", set)
	c.cordoned(t)
	c.adminPatch(t, c.one.Name, `{"metadata":{"annotations":{"example.com/restored":"true"}}}`)
	uncordon.succeed(t)
	c.has(t, "after the reboot", map[string]string{
		"label fluo/reboot-needed": "false", "label example.com/reboot": "done",
		"fluo/reboot-needed": "false", "fluo/status": "UPDATE_STATUS_UPDATED_NEED_REBOOT", "fluo/new-version": "4500.0.0",
		"fluo/reboot-ok": "false", "fluo/reboot-in-progress": "false", "fluo/agent-made-unschedulable": "false",
		"weave.works/kured-most-recent-reboot-needed": "*",
	})
	if c.node(t).Spec.Unschedulable {
		t.Error("node-1 is still cordoned")
	}
}

// A pod of a StatefulSet is created again under its name, on another node, before the eviction comes: it stays there.
func TestPodWithTheSameNameElsewhereStays(t *testing.T) {
	c := newCluster(t)
	c.onNodeOne(t, 1, kubetest.StatefulSet(namespace, "db", 1))
	proxy, kubeconfig := c.proxied(t)
	var once sync.Once
	var moved atomic.Pointer[corev1.Pod]
	proxy.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if !isEviction(r) {
			return false
		}
		once.Do(func() {
			if err := c.Admin.Core.Pods(namespace).Delete(r.Context(), "db-0", metav1.DeleteOptions{}); err != nil {
				t.Error(err)
			}
			err := c.AwaitPods(r.Context(), namespace, "db-0 on node-2", func(pods []*corev1.Pod) bool {
				if !allOn("node-2", 1)(pods) {
					return false
				}
				moved.Store(pods[0])
				return true
			})
			if err != nil {
				t.Error(err)
			}
		})
		return false
	})
	start(t, kubeconfig, "drain").succeed(t)
	is, err := c.Admin.Core.Pods(namespace).Get(t.Context(), "db-0", metav1.GetOptions{})
	must.Do(t, err)
	if was := moved.Load(); was == nil || is.UID != was.UID || is.DeletionTimestamp != nil {
		t.Errorf("the pod that was created again was evicted: %v", is.ObjectMeta)
	}
}

// A pod that ends slowly is waited for, and named with the finalizer that may never end. A pod that has finished is not
// waited for, even if a finalizer keeps it: nothing of it runs.
func TestFinalizerThatNeverEnds(t *testing.T) {
	c := newCluster(t)
	set := kubetest.StatefulSet(namespace, "db", 1)
	set.Spec.Template.Finalizers = []string{"example.com/never"}
	c.one.HoldPods()
	c.onNodeOne(t, 1, set)
	start(t, c.one.Kubeconfig, "drain", "--timeout=2s").fail(t, "1 of 1 pod left: default/db-0: ending, with the finalizer example.com/never")
	drain := start(t, c.one.Kubeconfig, "drain")
	drain.awaitStatus(t, "evicting 1 of 1 pod; waiting for default/db-0: ending, with the finalizer example.com/never")
	c.one.ReleasePods()
	drain.succeed(t)
	c.MustAwaitPods(t, namespace, "the pod that has finished, and is still there", func(pods []*corev1.Pod) bool {
		return len(pods) == 1 && pods[0].Status.Phase == corev1.PodSucceeded && pods[0].DeletionTimestamp != nil
	})
}

// An administrator's cordon stays, whether the drain is undone or the host has rebooted.
func TestCordonOfAnAdministratorStays(t *testing.T) {
	c := newCluster(t)
	c.onNodeOne(t, 1, kubetest.ReplicaSet(namespace, "web", 1))
	c.cordon(t, c.one.Name)
	start(t, c.one.Kubeconfig, "drain").succeed(t)
	for _, args := range [][]string{{"uncordon", "--cancelled"}, {"uncordon"}} {
		start(t, c.one.Kubeconfig, args...).succeed(t)
		if node := c.node(t); !node.Spec.Unschedulable || node.Annotations[cordonedAnnotation] != "" {
			t.Errorf("%v: the administrator's cordon is not as it was: unschedulable %v, annotations %v", args, node.Spec.Unschedulable, node.Annotations)
		}
	}

	// What somebody else has lifted, and an administrator has made again, is not the program's: its annotation went with it.
	c.uncordon(t, c.one.Name)
	start(t, c.one.Kubeconfig, "drain").succeed(t)
	c.cordoned(t)
	start(t, c.one.Kubeconfig, "uncordon").succeed(t)
	c.cordon(t, c.one.Name)
	start(t, c.one.Kubeconfig, "uncordon").succeed(t)
	if !c.node(t).Spec.Unschedulable {
		t.Error("uncordon has lifted a cordon that is not its own")
	}
}

// The node is taken back when its kubelet has reported this boot and Ready, and its DaemonSet pods run.
func TestUncordonWaitsForTheNodeAndItsDaemonSets(t *testing.T) {
	c := newCluster(t)
	start(t, c.one.Kubeconfig, "drain").succeed(t)
	c.one.Stop()
	c.MustCreate(t, kubetest.DaemonSet(namespace, "agent"))
	c.MustAwaitPods(t, namespace, "a DaemonSet pod that is not ready", func(pods []*corev1.Pod) bool {
		return slices.ContainsFunc(pods, func(p *corev1.Pod) bool { return p.Spec.NodeName == "node-1" && !kubetest.Ready(p) })
	})
	boot := c.node(t).Status.NodeInfo.BootID
	must.Do(t, c.one.SetBoot(t.Context(), "00000000-0000-0000-0000-000000000000"))
	uncordon := start(t, c.one.Kubeconfig, "uncordon")
	uncordon.awaitStatus(t, "its kubelet has not reported since the boot")
	must.Do(t, c.one.SetReady(t.Context(), false))
	must.Do(t, c.one.SetBoot(t.Context(), boot))
	uncordon.awaitStatus(t, "node node-1 is not Ready")
	must.Do(t, c.one.SetReady(t.Context(), true))
	uncordon.awaitStatus(t, "1 DaemonSet pod not ready: default/agent-")
	c.cordoned(t)
	c.one.Start()
	uncordon.succeed(t)
	c.untouched(t)
}

// A node that is deleted after its drain leaves nothing to undo. After a reboot it is waited for, because its kubelet
// registers it again.
func TestNodeThatIsDeletedAfterItsDrain(t *testing.T) {
	c := newCluster(t)
	start(t, c.one.Kubeconfig, "drain").succeed(t)
	must.Do(t, c.Admin.Core.Nodes().Delete(t.Context(), "node-1", metav1.DeleteOptions{}))
	missing := "node node-1 does not exist at " + c.URL
	start(t, c.AdminKubeconfig, "uncordon", "--cancelled", "--node=node-1").fail(t, missing+": check --node and --kubeconfig")
	for _, args := range [][]string{{"may-reboot"}, {"drain"}, {"uncordon", "--ready-timeout=1s"}} {
		start(t, c.one.Kubeconfig, args...).fail(t, missing+": its kubelet registers it when it starts")
	}
	undo := start(t, c.one.Kubeconfig, "uncordon", "--cancelled")
	undo.awaitStatus(t, "node node-1 does not exist any more: nothing to undo")
	undo.succeed(t)

	uncordon := start(t, c.one.Kubeconfig, "uncordon")
	uncordon.awaitStatus(t, "waiting: "+missing)
	must.Do(t, c.one.Register(t.Context()))
	uncordon.succeed(t)
	c.untouched(t)
}

// A host asks whether its node may go.
func TestMayReboot(t *testing.T) {
	c := newCluster(t)
	may := func(args ...string) *program {
		return start(t, c.one.Kubeconfig, append([]string{"may-reboot"}, args...)...)
	}
	may().succeed(t)
	c.onNodeOne(t, 1, kubetest.StatefulSet(namespace, "job", 1))
	may("--blocking-pod-selector=app=job").fail(t, "default/job-0")
	may("--blocking-pod-selector=app=other").succeed(t)
	may("--min-ready=1").fail(t, "--min-ready has to list all nodes, which a kubelet may not", "kubeconfig "+c.one.Kubeconfig)
	start(t, c.AdminKubeconfig, "may-reboot", "--node=node-1", "--min-ready=1").succeed(t)
	start(t, c.AdminKubeconfig, "may-reboot", "--node=node-1", "--min-ready=2").fail(t, "only 1 node beside node-1 Ready and not cordoned")
	c.adminPatch(t, c.one.Name, `{"metadata":{"annotations":{"flatcar-linux-update.v1.flatcar-linux.net/reboot-paused":"true"}}}`)
	may().fail(t, "reboot-paused")
}

// The program is killed in the middle of a drain: the next one takes over, and the undo finds what was done.
func TestDrainThatIsKilled(t *testing.T) {
	c := newCluster(t)
	c.onNodeOne(t, 3, kubetest.ReplicaSet(namespace, "web", 3))
	drain := c.heldDrain(t, c.one.Kubeconfig, 3)
	drain.Kill()
	c.cordoned(t)
	start(t, c.one.Kubeconfig, "uncordon", "--cancelled").succeed(t)
	c.untouched(t)

	drain = c.heldDrain(t, c.one.Kubeconfig, 3)
	must.Do(t, drain.Signal(syscall.SIGTERM))
	drain.fail(t, "drain node node-1: stopped, 3 of 3 pods left")
	c.cordoned(t)

	drain = c.heldDrain(t, c.one.Kubeconfig, 3)
	c.one.ReleasePods()
	drain.succeed(t)
	c.MustAwaitPods(t, namespace, "the pods on node-2", allOn("node-2", 3))
	start(t, c.one.Kubeconfig, "uncordon").succeed(t)
	c.untouched(t)
}

// Program and API server are killed together, in the middle of a drain, and of the return. What runs next takes over.
func TestProgramAndAPIServerThatAreKilled(t *testing.T) {
	c := newCluster(t)
	c.onNodeOne(t, 3, kubetest.ReplicaSet(namespace, "web", 3))
	drain := c.heldDrain(t, c.one.Kubeconfig, 3)
	c.StopAPIServer()
	drain.Kill()
	start(t, c.one.Kubeconfig, "uncordon", "--cancelled").fail(t, c.URL, "connection refused")
	must.Do(t, c.RestartAPIServer(t.Context()))
	c.cordoned(t)
	start(t, c.one.Kubeconfig, "uncordon", "--cancelled").succeed(t)
	c.untouched(t)

	c.one.ReleasePods()
	start(t, c.one.Kubeconfig, "drain").succeed(t)
	must.Do(t, c.one.SetReady(t.Context(), false))
	uncordon := start(t, c.one.Kubeconfig, "uncordon")
	uncordon.awaitStatus(t, "node-1 is not Ready")
	uncordon.Kill()
	c.StopAPIServer()
	must.Do(t, c.RestartAPIServer(t.Context()))
	c.cordoned(t)
	must.Do(t, c.one.SetReady(t.Context(), true))
	start(t, c.one.Kubeconfig, "uncordon").succeed(t)
	c.untouched(t)
}

// The API server stops to answer in the middle of a drain, with its connections open: the drain goes on afterwards.
func TestAPIServerThatHangs(t *testing.T) {
	c := newCluster(t)
	c.onNodeOne(t, 1, kubetest.ReplicaSet(namespace, "web", 1))
	drain := c.heldDrain(t, c.one.Kubeconfig, 1)
	must.Do(t, c.PauseAPIServer(t.Context()))
	drain.awaitStatus(t, "waiting for the API server: no answer within 12s")
	must.Do(t, c.ResumeAPIServer(t.Context()))
	c.one.ReleasePods()
	drain.succeed(t)
	c.MustAwaitPods(t, namespace, "the pod on node-2", allOn("node-2", 1))
}

// The API server is killed in the middle of a drain, and of the return: both go on when it is back.
func TestAPIServerThatIsKilled(t *testing.T) {
	c := newCluster(t)
	c.onNodeOne(t, 3, kubetest.ReplicaSet(namespace, "web", 3))
	drain := c.heldDrain(t, c.one.Kubeconfig, 3)
	c.StopAPIServer()
	drain.awaitStatus(t, "waiting for the API server: ")
	must.Do(t, c.RestartAPIServer(t.Context()))
	c.one.ReleasePods()
	drain.succeed(t)

	must.Do(t, c.one.SetReady(t.Context(), false))
	uncordon := start(t, c.one.Kubeconfig, "uncordon")
	uncordon.awaitStatus(t, "node-1 is not Ready")
	c.StopAPIServer()
	uncordon.awaitStatus(t, "connection refused")
	must.Do(t, c.RestartAPIServer(t.Context()))
	must.Do(t, c.one.SetReady(t.Context(), true))
	uncordon.succeed(t)
	c.untouched(t)
}

// An API server that is down, says nothing, forbids, or is out of order from the beginning: one line, and nothing is done.
func TestAPIServerThatDoesNotServe(t *testing.T) {
	c := newCluster(t)
	c.onNodeOne(t, 1, kubetest.ReplicaSet(namespace, "web", 1))
	proxy, kubeconfig := c.proxied(t)
	everyCommandFails := func(says string) {
		t.Helper()
		var programs []*program
		for _, args := range [][]string{{"drain"}, {"uncordon", "--cancelled"}, {"may-reboot"}} {
			programs = append(programs, start(t, kubeconfig, args...))
		}
		for _, p := range programs {
			p.fail(t, says)
		}
	}
	answer := func(code int) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, _ *http.Request) bool {
			kubetest.Refuse(w, code, http.StatusText(code))
			return true
		}
	}
	for _, test := range []struct {
		name      string
		intercept func(http.ResponseWriter, *http.Request) bool
		says      string
	}{
		{"403", answer(http.StatusForbidden), "of an account without this right"},
		{"401", answer(http.StatusUnauthorized), "does not accept the credentials of kubeconfig "},
		{"500", answer(http.StatusInternalServerError), http.StatusText(http.StatusInternalServerError)},
		{"503", answer(http.StatusServiceUnavailable), http.StatusText(http.StatusServiceUnavailable)},
		{"silent", func(_ http.ResponseWriter, r *http.Request) bool { <-r.Context().Done(); return true }, "no answer within 12s"},
	} {
		proxy.Intercept(test.intercept)
		t.Log(test.name)
		everyCommandFails(test.says)
		proxy.Intercept(nil)
		c.untouched(t)
	}
	proxy.Close()
	everyCommandFails(proxy.URL + ": dial tcp ")
	c.untouched(t)
	c.MustAwaitPods(t, namespace, "the pod, where it was", allOn("node-1", 1))
}

// An API server that is slow, and fails now and then: the drain is done.
func TestAPIServerThatFailsNowAndThen(t *testing.T) {
	c := newCluster(t)
	c.onNodeOne(t, 3, kubetest.ReplicaSet(namespace, "web", 3))
	proxy, kubeconfig := c.proxied(t)
	var lists, evictions atomic.Int32
	proxy.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		select { // each answer takes a while
		case <-time.After(200 * time.Millisecond):
		case <-r.Context().Done():
		}
		switch {
		case isEviction(r):
			switch evictions.Add(1) {
			case 1:
				kubetest.Refuse(w, http.StatusInternalServerError, "out of order")
				return true
			case 2:
				kubetest.Refuse(w, http.StatusTooManyRequests, "too busy")
				return true
			case 3:
				panic(http.ErrAbortHandler) // the connection ends without an answer
			}
		case strings.HasSuffix(r.URL.Path, "/pods") && lists.Add(1) == 3:
			kubetest.Refuse(w, http.StatusServiceUnavailable, "starting")
			return true
		}
		return false
	})
	start(t, kubeconfig, "drain").succeed(t)
	c.MustAwaitPods(t, namespace, "the pods on node-2", allOn("node-2", 3))
	if evictions.Load() < 6 {
		t.Errorf("only %d evictions were asked for", evictions.Load())
	}
}

// A right that is taken away in the middle ends the drain, with what was refused.
func TestEvictionThatIsForbidden(t *testing.T) {
	c := newCluster(t)
	c.onNodeOne(t, 1, kubetest.StatefulSet(namespace, "db", 1))
	proxy, kubeconfig := c.proxied(t)
	proxy.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if isEviction(r) {
			kubetest.Refuse(w, http.StatusForbidden, "nobody evicts today")
		}
		return isEviction(r)
	})
	start(t, kubeconfig, "drain").fail(t, "evict pod default/db-0: nobody evicts today")
	c.cordoned(t)
	start(t, kubeconfig, "uncordon", "--cancelled").succeed(t)
	c.untouched(t)
}

// The kubelet's certificate is replaced in the middle of a drain, and the old one is no longer accepted: in one file with
// the key as kubelets do, and in two files as k3s does, one of which is replaced before the other.
func TestCertificateThatRotates(t *testing.T) {
	for _, files := range []int{1, 2} {
		t.Run(fmt.Sprintf("files=%d", files), func(t *testing.T) {
			c := newCluster(t)
			c.onNodeOne(t, 2, kubetest.ReplicaSet(namespace, "web", 2))
			proxy, kubeconfig := c.proxied(t)
			dir := t.TempDir()
			pair := etcdtest.KeyPair{CertFile: filepath.Join(dir, "cert"), KeyFile: filepath.Join(dir, "key")}
			refresh := func(path string) {
				data, err := os.ReadFile(c.one.Certificate)
				must.Do(t, err)
				must.Do(t, os.WriteFile(path+".new", data, 0o600))
				must.Do(t, os.Rename(path+".new", path))
			}
			if files == 2 {
				refresh(pair.CertFile)
				refresh(pair.KeyFile)
				must.Do(t, c.WriteKubeconfig(kubeconfig, proxy.URL, pair))
			}
			drain := c.heldDrain(t, kubeconfig, 2)
			old := proxy.Requests()[0].Serial
			var renewed atomic.Bool
			proxy.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
				if r.TLS.PeerCertificates[0].SerialNumber.String() != old {
					renewed.Store(true)
				}
				refused := renewed.Load() && r.TLS.PeerCertificates[0].SerialNumber.String() == old
				if refused {
					kubetest.Refuse(w, http.StatusUnauthorized, "the certificate has expired")
				}
				return refused
			})
			must.Do(t, c.one.Rotate())
			if files == 2 {
				refresh(pair.CertFile)
				until := len(proxy.Requests()) + 2
				must.Eventually(t, patience, "requests with half of the pair", func() bool { return len(proxy.Requests()) >= until || !drain.Running() })
				if renewed.Load() {
					t.Error("a request had the new certificate without its key")
				}
				refresh(pair.KeyFile)
			}
			must.Eventually(t, patience, "a request with the new certificate", func() bool { return renewed.Load() || !drain.Running() })
			c.one.ReleasePods()
			drain.succeed(t)
			start(t, kubeconfig, "uncordon").succeed(t)
			c.untouched(t)
		})
	}
}

// 200 pods leave a node.
func TestDrainOfManyPods(t *testing.T) {
	const pods = 200
	c := newCluster(t)
	c.onNodeOne(t, pods, kubetest.ReplicaSet(namespace, "web", pods))
	proxy, kubeconfig := c.proxied(t)
	began := time.Now()
	start(t, kubeconfig, "drain").succeed(t)
	took := time.Since(began)
	counts := map[string]int{}
	for _, r := range proxy.Requests() {
		what := r.Method + " " + r.Path
		if strings.HasSuffix(r.Path, "/eviction") {
			what = "POST eviction"
		}
		counts[what]++
	}
	t.Logf("drained %d pods in %v with %d requests: %v", pods, took.Round(time.Millisecond), len(proxy.Requests()), counts)
	if counts["POST eviction"] != pods {
		t.Errorf("%d evictions of %d pods, each of which may go", counts["POST eviction"], pods)
	}
	c.MustAwaitPods(t, namespace, "the pods on node-2", allOn("node-2", pods))
}
