package kubetest

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
)

// UnreadyAnnotation on a pod makes the kubelet's stand-in run it without being ready.
const UnreadyAnnotation = "kubetest.locksmithd.io/unready"

// retry is how long a stand-in waits before it tries again what the API server did not do.
const retry = 100 * time.Millisecond

// kubelet is the work of a kubelet's stand-in: it makes the pods of its node run and, when they are deleted, end.
type kubelet struct {
	*Node
	deleted map[types.UID]time.Time // when a deletion was first seen
	done    map[types.UID]string    // the last thing that was done to a pod: "run" or "end"
}

// Start starts the kubelet's stand-in, if it does not run.
func (n *Node) Start() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stop != nil || n.cluster.running.Err() != nil {
		return
	}
	ctx, cancel := context.WithCancel(n.cluster.running)
	var ended sync.WaitGroup
	run := func() {
		k := kubelet{Node: n, deleted: map[types.UID]time.Time{}, done: map[types.UID]string{}}
		k.run(ctx)
	}
	ended.Go(run)
	n.cluster.ended.Go(ended.Wait)
	n.stop = func() {
		cancel()
		ended.Wait()
	}
}

// Stop ends the kubelet's stand-in, as when the node is down: pods neither begin nor end, and the node stays Ready until
// SetReady. It returns when the last request has been answered.
func (n *Node) Stop() {
	n.mu.Lock()
	stop := n.stop
	n.stop = nil
	n.mu.Unlock()
	if stop != nil {
		stop()
	}
}

func (k *kubelet) run(ctx context.Context) {
	pods := newView(k.Kubelet.Core.RESTClient(), "pods", "", fields.OneTermEqualSelector("spec.nodeName", k.Name), &corev1.Pod{})
	defer pods.close()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-pods.changed:
		case <-k.changed:
		case <-timer.C:
		}
		if next := k.sync(ctx, pods.objects()); next > 0 {
			timer.Reset(next)
		}
	}
}

// sync does what is due, and returns the time until more is due, 0 if nothing is.
func (k *kubelet) sync(ctx context.Context, pods []*corev1.Pod) (next time.Duration) {
	k.mu.Lock()
	endAfter, held := k.endAfter, k.held
	k.mu.Unlock()
	later := func(d time.Duration) {
		if next == 0 || d < next {
			next = d
		}
	}
	for _, pod := range pods {
		var err error
		switch done := k.done[pod.UID]; {
		case ctx.Err() != nil:
			return 0
		case pod.DeletionTimestamp != nil && done != "end":
			if _, seen := k.deleted[pod.UID]; !seen {
				k.deleted[pod.UID] = time.Now()
			}
			left := endAfter - time.Since(k.deleted[pod.UID])
			if held {
				continue
			}
			if left > 0 {
				later(left)
				continue
			}
			if err = k.end(ctx, pod); err == nil {
				k.done[pod.UID] = "end"
			}
		case pod.DeletionTimestamp == nil && pod.Status.Phase == corev1.PodPending && done == "":
			if err = k.start(ctx, pod); err == nil {
				k.done[pod.UID] = "run"
			}
		}
		if err != nil && !apierrors.IsNotFound(err) && ctx.Err() == nil {
			k.cluster.o.Logf("kubelet of %s: %v", k.Name, err)
			later(retry)
		}
	}
	return next
}

// start makes a pod run.
func (k *kubelet) start(ctx context.Context, pod *corev1.Pod) error {
	ready := pod.Annotations[UnreadyAnnotation] == ""
	return k.patchPod(ctx, pod, corev1.PodRunning, ready)
}

// end makes a pod end and, unless it has finalizers, go.
func (k *kubelet) end(ctx context.Context, pod *corev1.Pod) error {
	if err := k.patchPod(ctx, pod, corev1.PodSucceeded, false); err != nil {
		return err
	}
	return k.Kubelet.Core.Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{
		GracePeriodSeconds: new(int64), Preconditions: metav1.NewUIDPreconditions(string(pod.UID)),
	})
}

func (k *kubelet) patchPod(ctx context.Context, pod *corev1.Pod, phase corev1.PodPhase, ready bool) error {
	status := "False"
	if ready {
		status = "True"
	}
	now := time.Now().UTC().Format(time.RFC3339)
	patch := fmt.Sprintf(`{"metadata":{"uid":%q},"status":{"phase":%q,"conditions":[
		{"type":"Ready","status":%q,"lastTransitionTime":%q},{"type":"ContainersReady","status":%[3]q,"lastTransitionTime":%[4]q}]}}`,
		pod.UID, phase, status, now)
	_, err := k.Kubelet.Core.Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}, "status")
	return err
}
