package node

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// evictable reports whether a drain evicts a pod; objection says why it must not, "" for nothing.
func (s *Settings) evictable(pod *corev1.Pod) (evict bool, objection string) {
	switch {
	case isMirror(pod), isOfDaemonSet(pod), isFinished(pod), slices.Contains(s.SkipNamespaces, pod.Namespace):
		return false, ""
	case s.PodSelector != nil && !s.PodSelector.Matches(labels.Set(pod.Labels)):
		return false, ""
	case pod.DeletionTimestamp != nil: // nothing can save it
		return true, ""
	case !s.Force && metav1.GetControllerOf(pod) == nil:
		return true, "has no controller that would start it elsewhere (--force)"
	case !s.DeleteEmptyDirData && slices.ContainsFunc(pod.Spec.Volumes, isEmptyDir):
		return true, "has an emptyDir volume, whose data would be lost (--delete-emptydir-data)"
	}
	return true, ""
}

func isEmptyDir(volume corev1.Volume) bool { return volume.EmptyDir != nil }

// isMirror reports whether a pod is what the API server shows of a static pod, which ends with its node.
func isMirror(pod *corev1.Pod) bool {
	_, found := pod.Annotations[corev1.MirrorPodAnnotationKey]
	return found
}

// isOfDaemonSet goes by the owner alone, of whatever API group: a kubelet may not read DaemonSets, and each of them
// would start the pod again at once, on this node.
func isOfDaemonSet(pod *corev1.Pod) bool {
	owner := metav1.GetControllerOf(pod)
	return owner != nil && owner.Kind == "DaemonSet"
}

// isFinished reports whether nothing of a pod runs any more. To evict it would only delete its logs.
func isFinished(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

func isReady(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

func podName(pod *corev1.Pod) string { return pod.Namespace + "/" + pod.Name }

// plural counts things.
func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
