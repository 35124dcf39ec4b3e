package node

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// The annotations that remember what is to be changed back. Their values say since when, and are for people.
const (
	cordonedAnnotation = "locksmith.locksmithd.io/cordoned"
	excludedAnnotation = "locksmith.locksmithd.io/excluded-from-load-balancers"
)

// excludeLabel makes a cloud's load balancers leave the node. A kubelet may set it on its own node, as every label
// below node.kubernetes.io.
const excludeLabel = corev1.LabelNodeExcludeBalancers

// cordon makes a node unschedulable. An annotation that is left from a cordon which somebody else has lifted says
// nothing: the node is schedulable.
func cordon(node *corev1.Node, now time.Time) {
	if !node.Spec.Unschedulable {
		node.Spec.Unschedulable = true
		node.Annotations[cordonedAnnotation] = timestamp(now)
	}
}

// cordonedByUs reports whether the cordon of a node is ours to lift.
func cordonedByUs(node *corev1.Node) bool {
	_, found := node.Annotations[cordonedAnnotation]
	return found && node.Spec.Unschedulable
}

// uncordon undoes cordon.
func uncordon(node *corev1.Node) {
	if cordonedByUs(node) {
		node.Spec.Unschedulable = false
	}
	delete(node.Annotations, cordonedAnnotation)
}

// exclude makes load balancers leave the node.
func exclude(node *corev1.Node, now time.Time) {
	if _, found := node.Labels[excludeLabel]; !found {
		node.Labels[excludeLabel] = "true"
		node.Annotations[excludedAnnotation] = timestamp(now)
	}
}

// include undoes exclude.
func include(node *corev1.Node) {
	if _, found := node.Annotations[excludedAnnotation]; found {
		delete(node.Labels, excludeLabel)
		delete(node.Annotations, excludedAnnotation)
	}
}
