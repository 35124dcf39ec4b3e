package node

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/locksmithd/locksmith/internal/backoff"
	"github.com/locksmithd/locksmith/internal/safetext"
)

// maxParallel is the number of evictions that are requested at the same time.
const maxParallel = 10

// eviction is the state of a pod that has to leave.
type eviction struct {
	pod      *corev1.Pod
	next     time.Time // of the next request, at the earliest
	accepted bool      // by the API server, so that the pod ends
	why      string    // why the pod is still there
	refused  error     // a final refusal; it does not matter if the pod is no longer in the next list
}

// evictAll evicts pods until none that has to leave is on the node. Only lists of the node's pods, by UID, tell what is
// left: a pod that has ended, or was created again under its name on another node, is not in the next list. A pod that
// was started on the node meanwhile is.
func (n *Node) evictAll(ctx context.Context) error {
	known := map[types.UID]*eviction{} // all pods so far, also those that have left
	var left []*eviction
	var failure error // of the last list, if it failed
	for start := time.Now(); ; backoff.Sleep(ctx, pollInterval) {
		pods, err := n.listPods(ctx)
		if ctx.Err() != nil {
			return unfinished(endedAfter(ctx, failure), n.name, left, len(known))
		}
		switch failure = err; {
		case isFinal(err):
			return err
		case err != nil:
			n.status("waiting for the API server: " + reason(err))
			continue
		}
		if left, err = n.leaving(pods, known); err != nil || len(left) == 0 {
			return err
		}
		n.status(progress(left, len(known)))
		n.evictEach(ctx, left, n.ForceAfter > 0 && time.Since(start) >= n.ForceAfter)
		n.status(progress(left, len(known)))
	}
}

// leaving returns the pods that have to leave, sorted by name. It fails if the settings do not allow to evict one of
// them, or the API server has refused to.
func (n *Node) leaving(pods []corev1.Pod, known map[types.UID]*eviction) ([]*eviction, error) {
	var left []*eviction
	for i := range pods {
		pod := &pods[i]
		evict, objection := n.evictable(pod)
		switch e := known[pod.UID]; {
		case objection != "":
			return nil, n.undrainable(podName(pod) + " " + objection)
		case !evict:
		case e == nil:
			known[pod.UID] = &eviction{pod: pod, why: "not asked for yet"}
			left = append(left, known[pod.UID])
		case e.refused != nil:
			return nil, e.refused
		default:
			e.pod = pod
			left = append(left, e)
		}
	}
	for _, e := range left {
		if e.pod.DeletionTimestamp != nil {
			e.why = ending(e.pod)
		}
	}
	slices.SortFunc(left, func(a, b *eviction) int { return cmp.Compare(podName(a.pod), podName(b.pod)) })
	return left, nil
}

// ending says what a pod that is being deleted waits for.
func ending(pod *corev1.Pod) string {
	if len(pod.Finalizers) > 0 {
		return "ending, with the finalizer " + safetext.List(pod.Finalizers)
	}
	return "ending"
}

// evictEach requests the evictions that are due, and notes the answers.
func (n *Node) evictEach(ctx context.Context, left []*eviction, force bool) {
	var group sync.WaitGroup
	defer group.Wait()
	slots := make(chan struct{}, maxParallel)
	for _, e := range left {
		if e.pod.DeletionTimestamp != nil || time.Now().Before(e.next) {
			continue
		}
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			end := n.evict
			if force {
				end = n.deletePod
			}
			if err := end(ctx, e.pod, n.GracePeriod); ctx.Err() == nil {
				e.note(err)
			}
		})
	}
}

// note records the answer to an eviction. "Not found" and "conflict" need no case of their own: the pod is gone, or
// another pod has its name, and the next list shows it.
func (e *eviction) note(err error) {
	switch e.accepted = err == nil; {
	case e.accepted:
		e.why = "ending"
	case isFinal(err):
		e.refused = err
		e.why = reason(err)
	default:
		e.why = obstacle(err)
	}
	seconds, _ := apierrors.SuggestsClientDelay(err)
	e.next = time.Now().Add(max(retryInterval, time.Duration(seconds)*time.Second))
}

// isFinal reports whether an error is a refusal that does not pass by itself. Two kinds of "forbidden" do pass: a budget
// whose status is out of date, and a namespace that is being deleted.
func isFinal(err error) bool {
	return apierrors.IsUnauthorized(err) || apierrors.IsForbidden(err) &&
		!apierrors.HasStatusCause(err, policyv1.DisruptionBudgetCause) &&
		!apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause)
}

// obstacle says why an eviction has failed for now.
func obstacle(err error) string {
	cause, found := apierrors.StatusCause(err, policyv1.DisruptionBudgetCause)
	switch {
	case found:
		return budget(cause.Message)
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return "its namespace is being deleted"
	case apierrors.IsTooManyRequests(err):
		return "the API server is busy"
	}
	return reason(err)
}

// budget shortens the API server's message about a disruption budget. A kubelet may not read the budget itself.
func budget(message string) string {
	text, found := strings.CutPrefix(oneLine(message), "The disruption budget ")
	name, says, _ := strings.Cut(text, " ")
	switch {
	case !found:
		return text
	case strings.HasPrefix(says, "needs "): // "needs 2 healthy pods and has 2 currently"
		return fmt.Sprintf("budget %s allows none: it %s", name, says)
	}
	return "budget " + text
}

// progress is the status line.
func progress(left []*eviction, all int) string {
	first := left[0]
	for _, e := range left {
		if e.pod.DeletionTimestamp == nil && !e.accepted { // a blocked eviction says more than a pod that ends
			first = e
			break
		}
	}
	return fmt.Sprintf("evicting %d of %s; waiting for %s: %s", len(left), plural(all, "pod"), podName(first.pod), first.why)
}

// unfinished returns the error of a drain that has timed out or was stopped.
func unfinished(why error, name string, left []*eviction, all int) error {
	if len(left) == 0 {
		return fmt.Errorf("drain node %s: %w", name, why)
	}
	var texts []string
	for _, e := range left {
		texts = append(texts, podName(e.pod)+": "+e.why)
	}
	return fmt.Errorf("drain node %s: %w, %d of %s left: %s", name, why, len(left), plural(all, "pod"),
		safetext.List(texts))
}
