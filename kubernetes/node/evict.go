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

// maxParallel bounds the evictions that are asked for at the same time.
const maxParallel = 10

// eviction is what is known of a pod that is to leave.
type eviction struct {
	pod     *corev1.Pod
	next    time.Time // before which it is not asked for again
	why     string    // why the pod is still there
	refused error     // a refusal that is final, unless the pod has left by now
}

// evictAll evicts pods until none that is to leave is on the node. It goes by lists of the node's pods alone, and by
// their UIDs: a pod that has ended, or has moved under its name, is not in the next list, and one that was started
// meanwhile is.
func (n *Node) evictAll(ctx context.Context) error {
	known := map[types.UID]*eviction{} // all that were seen
	var left []*eviction
	for start := time.Now(); ; backoff.Sleep(ctx, pollInterval) {
		pods, err := n.listPods(ctx)
		switch {
		case ctx.Err() != nil:
			return unfinished(ctx, n.name, left, len(known))
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

// leaving returns what is known of the pods that are to leave, by their names, and fails if one of them must not.
func (n *Node) leaving(pods []corev1.Pod, known map[types.UID]*eviction) ([]*eviction, error) {
	var left []*eviction
	for i := range pods {
		pod := &pods[i]
		evict, objection := n.evictable(pod)
		switch e := known[pod.UID]; {
		case objection != "":
			return nil, fmt.Errorf("node %s cannot be drained: %s %s", n.name, podName(pod), objection)
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

// ending says what a pod waits for that is asked to end.
func ending(pod *corev1.Pod) string {
	if len(pod.Finalizers) > 0 {
		return "ending, with the finalizer " + safetext.List(pod.Finalizers)
	}
	return "ending"
}

// evictEach asks for the evictions that are due, and notes the answers.
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

// note takes down an answer. What it means that the pod is not there, or is another one, the next list will tell.
func (e *eviction) note(err error) {
	switch {
	case err == nil:
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

// isFinal reports whether an error is a refusal that does not pass by itself. The API server forbids as well what a
// budget does not allow while its numbers are out of order, and what is asked for in a namespace that is being deleted.
func isFinal(err error) bool {
	return apierrors.IsUnauthorized(err) || apierrors.IsForbidden(err) &&
		!apierrors.HasStatusCause(err, policyv1.DisruptionBudgetCause) &&
		!apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause)
}

// obstacle says why an eviction is to be tried again.
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

// budget shortens what the API server says of a disruption budget, which a kubelet may not read.
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
		if e.pod.DeletionTimestamp == nil && e.why != "ending" { // what hinders an eviction says more
			first = e
			break
		}
	}
	return fmt.Sprintf("evicting %d of %s; waiting for %s: %s", len(left), plural(all, "pod"), podName(first.pod), first.why)
}

// unfinished is the error of a drain whose time is over.
func unfinished(ctx context.Context, name string, left []*eviction, all int) error {
	if len(left) == 0 {
		return fmt.Errorf("drain node %s: %w", name, ended(ctx))
	}
	var texts []string
	for _, e := range left {
		texts = append(texts, podName(e.pod)+": "+e.why)
	}
	return fmt.Errorf("drain node %s: %w, %d of %s left: %s", name, ended(ctx), len(left), plural(all, "pod"),
		safetext.List(texts))
}
