package main_test

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/locksmithd/locksmith/kubernetes/kubetest"
)

// has fails unless node-1 has these annotations and labels, and no others than every node has. "*" is any value, "fluo/"
// the prefix of the Flatcar Linux Update Operator, and "label " begins a label.
func (c *cluster) has(t *testing.T, when string, want map[string]string) {
	t.Helper()
	node, got := c.node(t), map[string]string{}
	take := func(kind, key, value string) {
		name := kind + strings.Replace(key, "flatcar-linux-update.v1.flatcar-linux.net/", "fluo/", 1)
		if got[name] = value; want[name] == "*" {
			got[name] = "*"
		}
	}
	for key, value := range node.Annotations {
		take("", key, value)
	}
	for key, value := range node.Labels {
		if key != corev1.LabelHostname {
			take("label ", key, value)
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s node-1 has\n%v, want\n%v", when, got, want)
	}
}

// The annotations and labels are those of FLUO's agent and operator, in their order. What hooks have said at the last
// reboot does not count.
func TestFLUOsOrder(t *testing.T) {
	c := newCluster(t)
	c.one.HoldPods()
	c.onNodeOne(t, 1, kubetest.ReplicaSet(namespace, "web", 1))
	c.adminPatch(t, "node-1", `{"metadata":{"annotations":{"example.com/before":"true","example.com/after":"true"}}}`)
	environ := []string{
		"LOCKSMITH_VERSION=4230.2.1", "LOCKSMITH_KUBERNETES_FLUO=true",
		"LOCKSMITH_KUBERNETES_BEFORE_REBOOT_ANNOTATIONS=example.com/before",
		"LOCKSMITH_KUBERNETES_AFTER_REBOOT_ANNOTATIONS=example.com/after",
	}
	drain := startWith(t, environ, c.one.Kubeconfig, "drain")
	drain.awaitStatus(t, "waiting for hooks to set the annotation example.com/before=true")
	c.has(t, "while hooks run", map[string]string{
		"fluo/reboot-needed": "true", "label fluo/reboot-needed": "true", "label fluo/before-reboot": "true",
		"fluo/status": "UPDATE_STATUS_UPDATED_NEED_REBOOT", "fluo/new-version": "4230.2.1", "example.com/after": "true",
	})
	c.adminPatch(t, "node-1", `{"metadata":{"annotations":{"example.com/before":"true"}}}`)
	drain.awaitStatus(t, ": ending")
	c.has(t, "during the drain", map[string]string{
		"fluo/reboot-needed": "true", "label fluo/reboot-needed": "true", "fluo/reboot-ok": "true", "fluo/reboot-in-progress": "true",
		"fluo/agent-made-unschedulable": "true", cordonedAnnotation: "*",
		"fluo/status": "UPDATE_STATUS_UPDATED_NEED_REBOOT", "fluo/new-version": "4230.2.1", "example.com/after": "true",
	})
	c.one.ReleasePods()
	drain.succeed(t)

	uncordon := startWith(t, environ, c.one.Kubeconfig, "uncordon")
	uncordon.awaitStatus(t, "waiting for hooks to set the annotation example.com/after=true")
	c.has(t, "while hooks run after the reboot", map[string]string{
		"fluo/reboot-needed": "false", "label fluo/reboot-needed": "false", "fluo/reboot-ok": "true", "fluo/reboot-in-progress": "false",
		"fluo/agent-made-unschedulable": "true", cordonedAnnotation: "*", "label fluo/after-reboot": "true",
		"fluo/status": "UPDATE_STATUS_UPDATED_NEED_REBOOT", "fluo/new-version": "4230.2.1",
	})
	c.adminPatch(t, "node-1", `{"metadata":{"annotations":{"example.com/after":"true"}}}`)
	uncordon.succeed(t)
	for _, when := range []string{"after the reboot", "after a second time"} {
		c.has(t, when, map[string]string{
			"fluo/reboot-needed": "false", "label fluo/reboot-needed": "false", "fluo/reboot-ok": "false", "fluo/reboot-in-progress": "false",
			"fluo/agent-made-unschedulable": "false", "fluo/status": "UPDATE_STATUS_UPDATED_NEED_REBOOT", "fluo/new-version": "4230.2.1",
		})
		if c.node(t).Spec.Unschedulable {
			t.Errorf("%s node-1 is cordoned", when)
		}
		startWith(t, environ, c.one.Kubeconfig, "uncordon").succeed(t) // no hooks run
	}
}

// Hooks that have done their work in the first attempt do not do it again in the second.
func TestSecondAttemptGoesOnWithHooksThatRun(t *testing.T) {
	c := newCluster(t)
	args := []string{"uncordon", "--fluo", "--after-reboot-annotations=example.com/one,example.com/two"}
	start(t, c.one.Kubeconfig, "drain", "--fluo").succeed(t)
	uncordon := start(t, c.one.Kubeconfig, args...)
	uncordon.awaitStatus(t, "waiting for hooks to set the annotation example.com/one, example.com/two=true")
	c.adminPatch(t, "node-1", `{"metadata":{"annotations":{"example.com/one":"true"}}}`)
	uncordon.awaitStatus(t, "waiting for hooks to set the annotation example.com/two=true")
	uncordon.Kill()
	uncordon = start(t, c.one.Kubeconfig, args...)
	uncordon.awaitStatus(t, "waiting for hooks to set the annotation example.com/two=true")
	c.adminPatch(t, "node-1", `{"metadata":{"annotations":{"example.com/two":"true"}}}`)
	uncordon.succeed(t)
	if c.node(t).Spec.Unschedulable {
		t.Error("node-1 is still cordoned")
	}
}

// A drain that ends while hooks run has set what others look for: the undo takes all of it back, and nothing else.
func TestUndoOfConventions(t *testing.T) {
	c := newCluster(t)
	c.adminPatch(t, "node-1", `{"metadata":{"labels":{"example.com/reboot":"none"}}}`)
	environ := []string{
		"LOCKSMITH_KUBERNETES_FLUO=true", "LOCKSMITH_KUBERNETES_BEFORE_REBOOT_ANNOTATIONS=example.com/before",
		"LOCKSMITH_KUBERNETES_KURED=true", "LOCKSMITH_KUBERNETES_EXCLUDE_FROM_LOAD_BALANCERS=true",
		"LOCKSMITH_KUBERNETES_PRE_REBOOT_NODE_LABELS=example.com/reboot=soon",
		"LOCKSMITH_KUBERNETES_POST_REBOOT_NODE_LABELS=example.com/reboot=none",
	}
	startWith(t, environ, c.one.Kubeconfig, "drain", "--timeout=2s").
		fail(t, "hooks have not set the annotation example.com/before=true: not done within 2s")
	c.has(t, "before the drain", map[string]string{
		"fluo/reboot-needed": "true", "label fluo/reboot-needed": "true", "label fluo/before-reboot": "true",
		"weave.works/kured-reboot-in-progress": "*", "weave.works/kured-most-recent-reboot-needed": "*",
		"label example.com/reboot": "soon", "label " + corev1.LabelNodeExcludeBalancers: "true",
		"locksmith.locksmithd.io/excluded-from-load-balancers": "*",
	})
	startWith(t, environ, c.one.Kubeconfig, "uncordon", "--cancelled").succeed(t)
	c.has(t, "after the undo", map[string]string{
		"fluo/reboot-needed": "false", "label fluo/reboot-needed": "false", "fluo/reboot-ok": "false", "fluo/reboot-in-progress": "false",
		"weave.works/kured-most-recent-reboot-needed": "*", "label example.com/reboot": "none",
	})
}

// An administrator has taken the node out of load balancers, and it stays out of them.
func TestLabelOfAnAdministratorStays(t *testing.T) {
	c := newCluster(t)
	c.adminPatch(t, "node-1", `{"metadata":{"labels":{"`+corev1.LabelNodeExcludeBalancers+`":""}}}`)
	start(t, c.one.Kubeconfig, "drain", "--exclude-from-load-balancers=1s").succeed(t)
	start(t, c.one.Kubeconfig, "uncordon").succeed(t)
	c.has(t, "afterwards", map[string]string{"label " + corev1.LabelNodeExcludeBalancers: ""})
}

func TestLabelThatAKubeletMayNotSetIsNamed(t *testing.T) {
	c := newCluster(t)
	environ := []string{
		"LOCKSMITH_KUBERNETES_PRE_REBOOT_NODE_LABELS=kubernetes.io/reboot=soon",
		"LOCKSMITH_KUBERNETES_POST_REBOOT_NODE_LABELS=kubernetes.io/reboot=done",
	}
	startWith(t, environ, c.one.Kubeconfig, "drain").
		fail(t, "is not allowed to modify labels: kubernetes.io/reboot", "is of an account without this right")
	c.untouched(t)
	startWith(t, environ, c.AdminKubeconfig, "drain", "--node=node-1").succeed(t)
}

// A pod that is bound to the node by name comes in the middle of the drain.
func TestDrainFindsPodsThatComeLater(t *testing.T) {
	c := newCluster(t)
	c.one.HoldPods()
	c.onNodeOne(t, 1, kubetest.ReplicaSet(namespace, "web", 1))
	drain := start(t, c.one.Kubeconfig, "drain", "--force")
	drain.awaitStatus(t, "evicting 1 of 1 pod; waiting for default/web-")
	later := kubetest.Pod(namespace, "later")
	later.Spec.NodeName = "node-1"
	c.MustCreate(t, later)
	drain.awaitStatus(t, "evicting 2 of 2 pods")
	c.one.ReleasePods()
	drain.succeed(t)
	c.MustAwaitPods(t, namespace, "one pod on node-2", allOn("node-2", 1))
}
