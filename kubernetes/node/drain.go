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

// Drain sets the labels and annotations of the conventions, cordons the node, and evicts its pods. It returns once all
// of these pods have ended. An error names the pods that are left; Uncordon with cancelled undoes what was done. Drain
// uses the settings for pods and eviction, and the conventions.
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

// objections returns an error that names the pods which the settings do not allow to evict. Drain calls it before it
// changes anything.
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
	return n.undrainable(texts...)
}

// undrainable returns the error for pods that the settings do not allow to evict.
func (n *Node) undrainable(objections ...string) error {
	return fmt.Errorf("node %s cannot be drained: %s; for hooks these flags are LOCKSMITH_KUBERNETES_FORCE=true and "+
		"LOCKSMITH_KUBERNETES_DELETE_EMPTYDIR_DATA=true in /etc/locksmith/kubernetes.conf", n.name, safetext.List(objections))
}

// announce sets what others look for before the cordon.
func (n *Node) announce(node *corev1.Node) {
	if n.FLUO {
		n.fluoBeforeReboot(node)
	}
	n.kuredBeforeReboot(node, time.Now())
	if n.ExcludeFromLoadBalancers {
		exclude(node, time.Now())
	}
}

// leave takes the node out of service: no pod is scheduled to it any more.
func (n *Node) leave(node *corev1.Node) {
	if n.FLUO {
		n.fluoReboot(node)
	}
	cordon(node, time.Now())
}

// ended returns why a context has ended: a time-out, or "stopped" after a signal.
func ended(ctx context.Context) error {
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return errors.New("stopped")
}

// endedAfter is ended, with why the last request has failed, if it has.
func endedAfter(ctx context.Context, failure error) error {
	if failure == nil {
		return ended(ctx)
	}
	return fmt.Errorf("%w (waiting for the API server: %s)", ended(ctx), reason(failure))
}
