package node

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// evictable reports whether a pod has to leave. The objection, if not "", says why the settings do not allow it.
func (s *Settings) evictable(pod *corev1.Pod) (evict bool, objection string) {
	switch {
	case isMirror(pod), isOfDaemonSet(pod), isFinished(pod), slices.Contains(s.SkipNamespaces, pod.Namespace):
		return false, ""
	case s.PodSelector != nil && !s.PodSelector.Matches(labels.Set(pod.Labels)):
		return false, ""
	case pod.DeletionTimestamp != nil: // it ends anyway
		return true, ""
	case !s.Force && metav1.GetControllerOf(pod) == nil:
		return true, "has no controller that would start it elsewhere (--force)"
	case !s.DeleteEmptyDirData && slices.ContainsFunc(pod.Spec.Volumes, isEmptyDir):
		return true, "has an emptyDir volume, whose data would be lost (--delete-emptydir-data)"
	}
	return true, ""
}

func isEmptyDir(volume corev1.Volume) bool { return volume.EmptyDir != nil }

// isMirror reports whether a pod stands for a static pod, which the kubelet runs whatever happens to this object.
func isMirror(pod *corev1.Pod) bool {
	_, found := pod.Annotations[corev1.MirrorPodAnnotationKey]
	return found
}

// isOfDaemonSet reports whether a pod belongs to a DaemonSet, of any API group: each would start the pod again on this
// node at once. The name of the kind has to do, because a kubelet may not read DaemonSets.
func isOfDaemonSet(pod *corev1.Pod) bool {
	owner := metav1.GetControllerOf(pod)
	return owner != nil && owner.Kind == "DaemonSet"
}

// isFinished reports whether all containers of a pod have ended. Evicting such a pod would only delete its logs.
func isFinished(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

func isReady(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

func podName(pod *corev1.Pod) string { return pod.Namespace + "/" + pod.Name }

// plural returns a number with a noun, such as "1 pod" or "3 pods".
func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
