package node

import (
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Annotations of kured. Their values are times.
const (
	kuredInProgress = "weave.works/kured-reboot-in-progress"
	kuredLastNeeded = "weave.works/kured-most-recent-reboot-needed"
)

// kuredBeforeReboot sets what kured sets before it cordons a node. Labels do not depend on the setting Kured.
func (n *Node) kuredBeforeReboot(node *corev1.Node, now time.Time) {
	if _, found := node.Annotations[kuredInProgress]; n.Kured && !found {
		node.Annotations[kuredInProgress] = timestamp(now)
		node.Annotations[kuredLastNeeded] = timestamp(now)
	}
	maps.Copy(node.Labels, n.PreRebootLabels)
}

// kuredEnd does what kured does after it has uncordoned a node. That is after a reboot, or after a failed drain.
func (n *Node) kuredEnd(node *corev1.Node) {
	if n.Kured {
		delete(node.Annotations, kuredInProgress)
	}
	maps.Copy(node.Labels, n.PostRebootLabels)
}
