package kubetest

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/realpart"
)

// patience is how long the Must functions wait: far more than anything takes, even on a busy machine.
const patience = 2 * time.Minute

// T has the methods of *testing.T that the Must functions need.
type T = etcdtest.T

// MustStart runs a cluster until the end of the test. If the test fails, it prints the end of the logs.
func MustStart(t T) *Cluster {
	t.Helper()
	programs, err := FindPrograms()
	realpart.Must(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := Start(ctx, Options{Programs: programs, Dir: t.TempDir(), Logf: t.Logf})
	realpart.Must(t, err)
	t.Cleanup(func() {
		c.Close()
		if t.Failed() {
			t.Logf("%s", c.Log())
		}
	})
	return c
}

// within ends the test unless a function succeeds before patience ends.
func within(t T, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := f(ctx); err != nil {
		t.Fatal(err)
	}
}

// MustAddNode is AddNode.
func (c *Cluster) MustAddNode(t T, name string) (n *Node) {
	t.Helper()
	within(t, func(ctx context.Context) (err error) {
		n, err = c.AddNode(ctx, name)
		return err
	})
	return n
}

// MustCreate is Create.
func (c *Cluster) MustCreate(t T, objects ...runtime.Object) {
	t.Helper()
	within(t, func(ctx context.Context) error { return c.Create(ctx, objects...) })
}

// MustAwaitPods is AwaitPods.
func (c *Cluster) MustAwaitPods(t T, namespace, what string, holds func([]*corev1.Pod) bool) {
	t.Helper()
	within(t, func(ctx context.Context) error { return c.AwaitPods(ctx, namespace, what, holds) })
}

// MustAwaitNode is AwaitNode.
func (c *Cluster) MustAwaitNode(t T, name, what string, holds func(*corev1.Node) bool) {
	t.Helper()
	within(t, func(ctx context.Context) error { return c.AwaitNode(ctx, name, what, holds) })
}

// MustAwaitBudget is AwaitBudget.
func (c *Cluster) MustAwaitBudget(t T, namespace, name, what string, holds func(*policyv1.PodDisruptionBudget) bool) {
	t.Helper()
	within(t, func(ctx context.Context) error { return c.AwaitBudget(ctx, namespace, name, what, holds) })
}

// MustProxy runs a proxy of the cluster until the end of the test.
func (c *Cluster) MustProxy(t T) *Proxy {
	t.Helper()
	p, err := c.StartProxy()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}
