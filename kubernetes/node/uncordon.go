package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/locksmithd/locksmith/internal/backoff"
	"github.com/locksmithd/locksmith/internal/safetext"
)

// Uncordon undoes a drain: at once if the reboot was cancelled, otherwise once the node is Ready since this boot and its
// DaemonSet pods are ready. It can be called again, also where there was no drain. It uses the settings for what has to
// hold after a reboot, and the conventions.
//
// A node that was deleted meanwhile took the cordon with it. If the reboot was cancelled, nothing is left to undo. After a
// reboot the node is waited for like one that is not Ready, because its kubelet registers it again.
func (n *Node) Uncordon(ctx context.Context, cancelled bool) error {
	if cancelled {
		err := n.undo(ctx)
		if errors.Is(err, errNotRegistered) {
			n.status(fmt.Sprintf("node %s does not exist any more: nothing to undo", n.name))
			return nil
		}
		return err
	}
	if err := n.waitUntilBack(ctx); err != nil {
		return err
	}
	if n.FLUO {
		if err := n.fluoAfterReboot(ctx); err != nil {
			return err
		}
	}
	_, err := n.change(ctx, n.comeBack)
	return err
}

// undo puts the node back into service as it is.
func (n *Node) undo(ctx context.Context) error {
	if err := n.refuseLateChanges(ctx); err != nil {
		return err
	}
	_, err := n.change(ctx, n.comeBack)
	return err
}

// refuseLateChanges gives the node a new version, so that the API server refuses a change that a drain has sent before.
// The drain may have been killed, or have stopped waiting for the answer. Without a new version, its cordon could follow
// an undo that has found nothing to undo, and nobody would lift it. An earlier undo that was killed may have left its
// annotation, in the same second.
func (n *Node) refuseLateChanges(ctx context.Context) error {
	_, err := n.change(ctx, func(node *corev1.Node) {
		node.Annotations[undoingAnnotation] = time.Now().UTC().Format(time.RFC3339Nano)
	})
	return err
}

// comeBack puts the node back into service, and undoes announce and leave.
func (n *Node) comeBack(node *corev1.Node) {
	if n.FLUO {
		n.fluoEnd(node)
	}
	uncordon(node)
	include(node)
	delete(node.Annotations, undoingAnnotation)
	n.kuredEnd(node)
}

// waitUntilBack waits until the node is Ready, and then until its DaemonSet pods are.
func (n *Node) waitUntilBack(ctx context.Context) error {
	err := n.waitFor(ctx, n.ReadyTimeout, func(ctx context.Context) (string, error) {
		node, err := n.getNode(ctx)
		if err != nil {
			return "", err
		}
		return n.notBack(node), nil
	})
	if err != nil || n.WaitDaemonSets == 0 {
		return err
	}
	return n.waitFor(ctx, n.WaitDaemonSets, func(ctx context.Context) (string, error) {
		pods, err := n.listPods(ctx)
		if err != nil {
			return "", err
		}
		return notRunning(pods), nil
	})
}

// notBack says why a node does not count as back, "" if it does. Until the kubelet has reported this boot, the API
// server shows the node as it was before the reboot.
func (n *Node) notBack(node *corev1.Node) string {
	ready, reported := readiness(node), node.Status.NodeInfo.BootID
	switch {
	case n.BootID != "" && reported != "" && reported != n.BootID:
		return fmt.Sprintf("node %s: its kubelet has not reported since the boot", n.name)
	case ready.Status != corev1.ConditionTrue:
		return fmt.Sprintf("node %s is not Ready: %s", n.name, cmp.Or(oneLine(ready.Message), "its kubelet has not said why"))
	}
	return ""
}

// readiness returns the node's condition Ready, or the zero value if there is none.
func readiness(node *corev1.Node) (ready corev1.NodeCondition) {
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			ready = condition
		}
	}
	return ready
}

// notRunning names the DaemonSet pods that are not ready, "" if all are. Pods that are being deleted do not count.
func notRunning(pods []corev1.Pod) string {
	var texts []string
	for i := range pods {
		pod := &pods[i]
		if isOfDaemonSet(pod) && !isFinished(pod) && pod.DeletionTimestamp == nil && !isReady(pod) {
			texts = append(texts, podName(pod))
		}
	}
	if len(texts) == 0 {
		return ""
	}
	return fmt.Sprintf("%s not ready: %s", plural(len(texts), "DaemonSet pod"), safetext.List(texts))
}

// waitFor calls ask until it returns no obstacle, "". After a time it fails with the last obstacle. A failed request is
// tried again, unless the API server has refused it for good.
func (n *Node) waitFor(ctx context.Context, within time.Duration, ask func(context.Context) (string, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, within, fmt.Errorf("waited %v", within))
	defer cancel()
	obstacle := "there was no answer"
	for ; ; backoff.Sleep(ctx, pollInterval) {
		now, err := ask(ctx)
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("%s (%w)", obstacle, ended(ctx))
		case isFinal(err):
			return err
		case err != nil:
			obstacle = err.Error()
		case now == "":
			return nil
		default:
			obstacle = now
		}
		n.status("waiting: " + obstacle)
	}
}
