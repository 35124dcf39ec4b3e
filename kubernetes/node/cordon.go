package node

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// These annotations record which changes are ours to undo. Their values are the times of the changes, for people.
const (
	cordonedAnnotation = "locksmith.locksmithd.io/cordoned"
	excludedAnnotation = "locksmith.locksmithd.io/excluded-from-load-balancers"
)

// undoingAnnotation is there only while a drain is undone.
const undoingAnnotation = "locksmith.locksmithd.io/undoing"

// excludeLabel takes the node out of a cloud's load balancers. A kubelet may set every label below node.kubernetes.io
// on its own node.
const excludeLabel = corev1.LabelNodeExcludeBalancers

// cordon makes a node unschedulable. A schedulable node may still have the annotation of an earlier cordon, which
// somebody else has lifted: the annotation is then overwritten.
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

// exclude takes the node out of load balancers, unless somebody else has.
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
