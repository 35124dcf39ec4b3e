package kubetest

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
)

// schedule binds pods to nodes until the cluster is closed: the pod of a DaemonSet to the node that it was made for, any
// other to the Ready, schedulable node with the fewest pods.
func (c *Cluster) schedule() {
	ctx := c.running
	pods := newView(c.Admin.Core.RESTClient(), "pods", "", fields.Everything(), &corev1.Pod{})
	defer pods.close()
	nodes := newView(c.Admin.Core.RESTClient(), "nodes", "", fields.Everything(), &corev1.Node{})
	defer nodes.close()
	timer := time.NewTimer(0)
	defer timer.Stop()
	bound := map[types.UID]string{} // the nodes of pods, some of which the view does not show yet
	for {
		select {
		case <-ctx.Done():
			return
		case <-pods.changed:
		case <-nodes.changed:
		case <-timer.C:
		}
		load := map[string]int{}
		for _, pod := range pods.objects() {
			if pod.Spec.NodeName != "" {
				bound[pod.UID] = pod.Spec.NodeName
			}
			load[bound[pod.UID]]++
		}
		for _, pod := range pods.objects() {
			if bound[pod.UID] != "" || pod.DeletionTimestamp != nil || ctx.Err() != nil {
				continue
			}
			node := choose(pod, nodes.objects(), load)
			if node == "" {
				continue // a change of a node wakes the scheduler
			}
			err := c.Admin.Core.Pods(pod.Namespace).Bind(ctx, &corev1.Binding{
				ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
				Target:     corev1.ObjectReference{Kind: "Node", Name: node},
			}, metav1.CreateOptions{})
			switch {
			case err == nil:
				bound[pod.UID] = node
				load[node]++
			case !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) && ctx.Err() == nil:
				c.o.Logf("scheduler: %v", err)
				timer.Reset(retry)
			}
		}
	}
}

// choose returns the node for a pod, "" if there is none.
func choose(pod *corev1.Pod, nodes []*corev1.Node, load map[string]int) string {
	if only := daemonSetNode(pod); only != "" {
		return only
	}
	nodes = slices.DeleteFunc(slices.Clone(nodes), func(n *corev1.Node) bool { return n.Spec.Unschedulable || !nodeReady(n) })
	if len(nodes) == 0 {
		return ""
	}
	return slices.MinFunc(nodes, func(a, b *corev1.Node) int { return load[a.Name] - load[b.Name] }).Name
}

// daemonSetNode returns the node that the DaemonSet controller has made a pod for, "" if the pod has another controller.
func daemonSetNode(pod *corev1.Pod) string {
	if pod.Spec.Affinity == nil || pod.Spec.Affinity.NodeAffinity == nil || pod.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return ""
	}
	for _, term := range pod.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
		for _, field := range term.MatchFields {
			if field.Key == metav1.ObjectNameField && field.Operator == corev1.NodeSelectorOpIn && len(field.Values) == 1 {
				return field.Values[0]
			}
		}
	}
	return ""
}
