package node

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/locksmithd/locksmith/internal/safetext"
)

// MayReboot returns why the node must not reboot now, "" if it may. An error means that this is not known. MayReboot
// uses BlockingPods and MinReady. FLUO's annotation reboot-paused counts even if FLUO is false.
func (n *Node) MayReboot(ctx context.Context) (obstacle string, err error) {
	node, err := n.getNode(ctx)
	if err != nil {
		return "", err
	}
	if obstacle := paused(node); obstacle != "" {
		return obstacle, nil
	}
	if len(n.BlockingPods) > 0 {
		pods, err := n.listPods(ctx)
		if err != nil {
			return "", err
		}
		if obstacle := n.blocking(pods); obstacle != "" {
			return obstacle, nil
		}
	}
	if n.MinReady > 0 {
		return n.tooFewReady(ctx)
	}
	return "", nil
}

// paused returns an obstacle if FLUO's reboot-paused is set. FLUO reads the annotation only, but administrators also set
// it as a label by mistake.
func paused(node *corev1.Node) string {
	switch {
	case node.Annotations[fluoPaused] == "true":
		return fmt.Sprintf("node %s has the annotation %s=true", node.Name, fluoPaused)
	case node.Labels[fluoPaused] == "true":
		return fmt.Sprintf("node %s has the label %s=true", node.Name, fluoPaused)
	}
	return ""
}

// blocking names the pods that match the first selector with any. They keep the node from a reboot.
func (n *Node) blocking(pods []corev1.Pod) string {
	for _, selector := range n.BlockingPods {
		var names []string
		for i := range pods {
			if !isFinished(&pods[i]) && selector.Matches(labels.Set(pods[i].Labels)) {
				names = append(names, podName(&pods[i]))
			}
		}
		if len(names) > 0 {
			return fmt.Sprintf("%s with %s on node %s: %s", plural(len(names), "pod"), selector, n.name, safetext.List(names))
		}
	}
	return ""
}

func (n *Node) tooFewReady(ctx context.Context) (string, error) {
	nodes, err := n.listNodes(ctx)
	if apierrors.IsForbidden(err) {
		return "", fmt.Errorf("--min-ready has to list all nodes, which a kubelet may not since Kubernetes 1.32: "+
			"set --kubeconfig and --node (%w)", err)
	}
	ready := 0
	for i := range nodes {
		node := &nodes[i]
		if node.Name != n.name && !node.Spec.Unschedulable && readiness(node).Status == corev1.ConditionTrue {
			ready++
		}
	}
	if err == nil && ready < n.MinReady {
		return fmt.Sprintf("only %s beside %s Ready and not cordoned, --min-ready is %d",
			plural(ready, "node"), n.name, n.MinReady), nil
	}
	return "", err
}
