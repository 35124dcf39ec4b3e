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

// retry is how long a stand-in waits after a failed request.
const retry = 100 * time.Millisecond

// kubelet is the work of a kubelet's stand-in: it makes the pods of its node run and, when they are deleted, end.
type kubelet struct {
	name    string
	clients Clients
	logf    func(format string, args ...any)
	changed <-chan struct{}         // has a value after a change of what pace returns
	pace    func() pace             // the current one
	host    bool                    // it starts with a boot of its host, when no pod runs yet
	created map[types.UID]time.Time // when a pod was first seen
	deleted map[types.UID]time.Time // when a deletion was first seen
	done    map[types.UID]string    // the last thing that was done to a pod: "run" or "end"
}

// pace is how long pods take.
type pace struct {
	startAfter, endAfter time.Duration
	held                 bool // no pod ends
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
		k := kubelet{name: n.Name, clients: n.Kubelet, logf: n.cluster.o.Logf, changed: n.changed, pace: n.currentPace}
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

func (n *Node) currentPace() pace {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.pace
}

func (k *kubelet) run(ctx context.Context) {
	k.created, k.deleted, k.done = map[types.UID]time.Time{}, map[types.UID]time.Time{}, map[types.UID]string{}
	pods := newView(k.clients.Core.RESTClient(), "pods", "", fields.OneTermEqualSelector("spec.nodeName", k.name), &corev1.Pod{})
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
	pace := k.pace()
	later := func(d time.Duration) {
		if next == 0 || d < next {
			next = d
		}
	}
	// due reports whether a time has passed since the pod was first in seen.
	due := func(seen map[types.UID]time.Time, pod *corev1.Pod, after time.Duration) bool {
		if _, known := seen[pod.UID]; !known {
			seen[pod.UID] = time.Now()
		}
		left := after - time.Since(seen[pod.UID])
		if left > 0 {
			later(left)
		}
		return left <= 0
	}
	for _, pod := range pods {
		var err error
		switch done := k.done[pod.UID]; {
		case ctx.Err() != nil:
			return 0
		case pod.DeletionTimestamp != nil && done != "end":
			if !due(k.deleted, pod, pace.endAfter) || pace.held {
				continue
			}
			if err = k.end(ctx, pod); err == nil {
				k.done[pod.UID] = "end"
			}
		case pod.DeletionTimestamp != nil:
		case k.host && done == "" && pod.Status.Phase == corev1.PodRunning && Ready(pod):
			err = k.patchPod(ctx, pod, corev1.PodRunning, false) // it ended with the boot before
		case pod.Status.Phase == corev1.PodPending && done == "", k.host && pod.Status.Phase == corev1.PodRunning && Ready(pod) != wantsReady(pod):
			if !due(k.created, pod, pace.startAfter) {
				continue
			}
			if err = k.start(ctx, pod); err == nil {
				k.done[pod.UID] = "run"
			}
		}
		if err != nil && !apierrors.IsNotFound(err) && ctx.Err() == nil {
			k.logf("kubelet of %s: %v", k.name, err)
			later(retry)
		}
	}
	return next
}

// start makes a pod run.
func (k *kubelet) start(ctx context.Context, pod *corev1.Pod) error {
	return k.patchPod(ctx, pod, corev1.PodRunning, wantsReady(pod))
}

func wantsReady(pod *corev1.Pod) bool { return pod.Annotations[UnreadyAnnotation] == "" }

// end makes a pod end and, unless it has finalizers, go.
func (k *kubelet) end(ctx context.Context, pod *corev1.Pod) error {
	if err := k.patchPod(ctx, pod, corev1.PodSucceeded, false); err != nil {
		return err
	}
	return k.clients.Core.Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{
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
	_, err := k.clients.Core.Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}, "status")
	return err
}
