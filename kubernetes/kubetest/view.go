package kubetest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

// view holds the objects of one kind, kept up to date by a watch. It survives times without an API server.
type view[T runtime.Object] struct {
	store   cache.Store
	synced  func() bool
	changed chan struct{} // has a value after a change that nobody has received yet
	close   func()
}

// newView begins to watch objects. The namespace "" means all.
func newView[T runtime.Object](c cache.Getter, resource, namespace string, selector fields.Selector, example T) *view[T] {
	v := &view[T]{changed: make(chan struct{}, 1)}
	var informer cache.Controller
	v.store, informer = cache.NewInformerWithOptions(cache.InformerOptions{
		Logger:        &klog.Logger{}, // silent: a watch that fails is tried again
		ListerWatcher: cache.NewListWatchFromClient(c, resource, namespace, selector),
		ObjectType:    example,
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    func(any) { v.change() },
			UpdateFunc: func(any, any) { v.change() },
			DeleteFunc: func(any) { v.change() },
		},
	})
	v.synced = informer.HasSynced
	ctx, cancel := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	ended.Go(func() { informer.RunWithContext(ctx) })
	ended.Go(func() {
		if cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
			v.change() // even if there are none
		}
	})
	v.close = func() {
		cancel()
		ended.Wait()
	}
	return v
}

func (v *view[T]) change() {
	select {
	case v.changed <- struct{}{}:
	default:
	}
}

// objects returns all objects. They must not be changed.
func (v *view[T]) objects() []T {
	var objects []T
	for _, object := range v.store.List() {
		objects = append(objects, object.(T))
	}
	return objects
}

// await waits until a condition holds for the objects of a view, which it closes.
func (v *view[T]) await(ctx context.Context, what string, name func(T) string, holds func([]T) bool) error {
	defer v.close()
	for {
		if v.synced() && holds(v.objects()) {
			return nil
		}
		select {
		case <-v.changed:
		case <-ctx.Done():
			var have []string
			for _, object := range v.objects() {
				have = append(have, name(object))
			}
			slices.Sort(have)
			return fmt.Errorf("wait for %s: %w; there are\n%s", what, ctx.Err(), strings.Join(have, "\n"))
		}
	}
}

// AwaitPods waits until a condition holds for the pods of a namespace ("": all), which it must not change. What names
// the condition in the error that is returned when ctx ends.
func (c *Cluster) AwaitPods(ctx context.Context, namespace, what string, holds func([]*corev1.Pod) bool) error {
	v := newView(c.Admin.Core.RESTClient(), "pods", namespace, fields.Everything(), &corev1.Pod{})
	return v.await(ctx, what, describePod, holds)
}

// AwaitNode waits until a condition holds for a node, which it must not change.
func (c *Cluster) AwaitNode(ctx context.Context, name, what string, holds func(*corev1.Node) bool) error {
	v := newView(c.Admin.Core.RESTClient(), "nodes", "", fields.OneTermEqualSelector("metadata.name", name), &corev1.Node{})
	return v.await(ctx, what, describeNode, func(nodes []*corev1.Node) bool { return len(nodes) == 1 && holds(nodes[0]) })
}

// AwaitBudget waits until a condition holds for a budget, which it must not change. Before that it waits until the
// disruption controller has observed the newest generation of the budget.
func (c *Cluster) AwaitBudget(ctx context.Context, namespace, name, what string, holds func(*policyv1.PodDisruptionBudget) bool) error {
	v := newView(c.Admin.Policy.RESTClient(), "poddisruptionbudgets", namespace,
		fields.OneTermEqualSelector("metadata.name", name), &policyv1.PodDisruptionBudget{})
	return v.await(ctx, what, describeBudget, func(budgets []*policyv1.PodDisruptionBudget) bool {
		return len(budgets) == 1 && budgets[0].Status.ObservedGeneration == budgets[0].Generation && holds(budgets[0])
	})
}

func describePod(p *corev1.Pod) string {
	text := fmt.Sprintf("pod %s/%s on %q: %s, ready %v", p.Namespace, p.Name, p.Spec.NodeName, p.Status.Phase, Ready(p))
	if p.DeletionTimestamp != nil {
		text += ", being deleted"
	}
	return text
}

func describeNode(n *corev1.Node) string {
	return fmt.Sprintf("node %s: ready %v, unschedulable %v, labels %v, annotations %v", n.Name, nodeReady(n), n.Spec.Unschedulable, n.Labels, n.Annotations)
}

func describeBudget(b *policyv1.PodDisruptionBudget) string {
	return fmt.Sprintf("budget %s/%s: %d of %d pods healthy, %d needed, %d disruptions allowed", b.Namespace, b.Name,
		b.Status.CurrentHealthy, b.Status.ExpectedPods, b.Status.DesiredHealthy, b.Status.DisruptionsAllowed)
}

// Ready reports whether a pod has the condition Ready.
func Ready(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

func nodeReady(n *corev1.Node) bool {
	return slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}

// AllReady holds when there are n pods, all ready, and none of them is being deleted.
func AllReady(n int) func([]*corev1.Pod) bool {
	return func(pods []*corev1.Pod) bool {
		return len(pods) == n && !slices.ContainsFunc(pods, func(p *corev1.Pod) bool { return !Ready(p) || p.DeletionTimestamp != nil })
	}
}
