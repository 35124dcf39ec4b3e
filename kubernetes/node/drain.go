package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/locksmithd/locksmith/internal/backoff"
	"github.com/locksmithd/locksmith/internal/safetext"
)

// Drain cordons the node, and returns once all pods that are to leave have ended or have moved. What it announces
// before, by labels and annotations, follows Settings. An error says what is left; Uncordon with cancelled undoes what
// was done. It uses the settings of pods, of eviction, and the conventions.
func (n *Node) Drain(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, n.Timeout, fmt.Errorf("not done within %v", n.Timeout))
	defer cancel()
	if err := n.objections(ctx); err != nil {
		return err
	}
	if _, err := n.change(ctx, n.announce); err != nil {
		return err
	}
	if n.FLUO {
		if err := n.waitForAnnotations(ctx, n.BeforeRebootAnnotations); err != nil {
			return err
		}
	}
	if n.ExcludeFromLoadBalancers && n.LoadBalancerWait > 0 {
		n.status(fmt.Sprintf("waiting %v for load balancers to leave the node", n.LoadBalancerWait))
		if backoff.Sleep(ctx, n.LoadBalancerWait); ctx.Err() != nil {
			return fmt.Errorf("wait for load balancers: %w", ended(ctx))
		}
	}
	if _, err := n.change(ctx, n.leave); err != nil {
		return err
	}
	return n.evictAll(ctx)
}

// objections returns an error that names the pods which a drain must not evict. Nothing has been changed by then.
func (n *Node) objections(ctx context.Context) error {
	pods, err := n.listPods(ctx)
	if err != nil {
		return err
	}
	var texts []string
	for i := range pods {
		if _, objection := n.evictable(&pods[i]); objection != "" {
			texts = append(texts, podName(&pods[i])+" "+objection)
		}
	}
	if len(texts) == 0 {
		return nil
	}
	return fmt.Errorf("node %s cannot be drained: %s", n.name, safetext.List(texts))
}

// announce says that the node will go, before it takes no more pods.
func (n *Node) announce(node *corev1.Node) {
	if n.FLUO {
		n.fluoBeforeReboot(node)
	}
	n.kuredBeforeReboot(node, time.Now())
	if n.ExcludeFromLoadBalancers {
		exclude(node, time.Now())
	}
}

// leave takes the node out of service.
func (n *Node) leave(node *corev1.Node) {
	if n.FLUO {
		n.fluoReboot(node)
	}
	cordon(node, time.Now())
}

// ended says why a context has ended.
func ended(ctx context.Context) error {
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return errors.New("stopped")
}
