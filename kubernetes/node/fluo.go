package node

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/locksmithd/locksmith/internal/backoff"
	"github.com/locksmithd/locksmith/internal/safetext"
)

// Annotations and labels of the Flatcar Linux Update Operator. There, the agent on each node and the operator set them
// in turn; this program does the part of both. DaemonSets that select before-reboot or after-reboot start when the label
// is set.
const (
	fluo = "flatcar-linux-update.v1.flatcar-linux.net/"

	fluoNeeded       = fluo + "reboot-needed"            // annotation and label, of the agent
	fluoOK           = fluo + "reboot-ok"                // annotation of the operator: hooks before a reboot are done
	fluoInProgress   = fluo + "reboot-in-progress"       // annotation of the agent, from the drain to the boot
	fluoCordoned     = fluo + "agent-made-unschedulable" // annotation of the agent
	fluoStatus       = fluo + "status"                   // annotation of the agent, from update_engine
	fluoNewVersion   = fluo + "new-version"              // annotation of the agent, from update_engine
	fluoPaused       = fluo + "reboot-paused"            // annotation of administrators
	fluoBeforeReboot = fluo + "before-reboot"            // label of the operator while hooks run
	fluoAfterReboot  = fluo + "after-reboot"             // label of the operator while hooks run
)

// fluoBeforeReboot says that a reboot is needed, and starts the hooks before it. Those after an earlier reboot, from which
// the node is not back yet, end.
func (n *Node) fluoBeforeReboot(node *corev1.Node) {
	node.Annotations[fluoNeeded] = "true"
	node.Labels[fluoNeeded] = "true"
	if n.NewVersion != "" {
		node.Annotations[fluoStatus] = "UPDATE_STATUS_UPDATED_NEED_REBOOT"
		node.Annotations[fluoNewVersion] = n.NewVersion
	}
	endHooks(node, fluoAfterReboot, n.AfterRebootAnnotations)
	startHooks(node, fluoBeforeReboot, n.BeforeRebootAnnotations)
}

// fluoReboot says that the hooks before the reboot are done, and that the node is about to reboot.
func (n *Node) fluoReboot(node *corev1.Node) {
	endHooks(node, fluoBeforeReboot, n.BeforeRebootAnnotations)
	node.Annotations[fluoOK] = "true"
	node.Annotations[fluoInProgress] = "true"
	if !node.Spec.Unschedulable {
		node.Annotations[fluoCordoned] = "true"
	}
}

// fluoAfterReboot starts the hooks after the reboot and waits for them, if the node was drained by fluoReboot.
func (n *Node) fluoAfterReboot(ctx context.Context) error {
	node, err := n.change(ctx, func(node *corev1.Node) {
		if node.Annotations[fluoOK] == "true" {
			fluoNotNeeded(node)
			startHooks(node, fluoAfterReboot, n.AfterRebootAnnotations)
		}
	})
	if err != nil || node.Annotations[fluoOK] != "true" {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, n.ReadyTimeout, fmt.Errorf("not done within %v", n.ReadyTimeout))
	defer cancel()
	return n.waitForAnnotations(ctx, n.AfterRebootAnnotations)
}

// fluoEnd leaves the node as FLUO does after a reboot. It also lifts a cordon that FLUO's own agent has made, before this
// program replaced it.
func (n *Node) fluoEnd(node *corev1.Node) {
	endHooks(node, fluoBeforeReboot, n.BeforeRebootAnnotations)
	endHooks(node, fluoAfterReboot, n.AfterRebootAnnotations)
	fluoNotNeeded(node)
	node.Annotations[fluoOK] = "false"
	if node.Annotations[fluoCordoned] == "true" {
		node.Annotations[fluoCordoned] = "false"
		node.Spec.Unschedulable = false
	}
}

func fluoNotNeeded(node *corev1.Node) {
	node.Annotations[fluoNeeded] = "false"
	node.Labels[fluoNeeded] = "false"
	node.Annotations[fluoInProgress] = "false"
}

// startHooks sets the label that hooks select, and removes the annotations that are left from earlier hooks. If the
// label is set already, hooks may be at work or done, and keep their annotations.
func startHooks(node *corev1.Node, label string, annotations []string) {
	if node.Labels[label] != "true" {
		removeAll(node.Annotations, annotations)
		node.Labels[label] = "true"
	}
}

func endHooks(node *corev1.Node, label string, annotations []string) {
	if _, found := node.Labels[label]; found {
		removeAll(node.Annotations, annotations)
		delete(node.Labels, label)
	}
}

func removeAll(values map[string]string, keys []string) {
	for _, key := range keys {
		delete(values, key)
	}
}

// waitForAnnotations waits until hooks have set all annotations to true.
func (n *Node) waitForAnnotations(ctx context.Context, annotations []string) error {
	missing := annotations
	var failure error // of the last request, if it failed
	for ; len(missing) > 0; backoff.Sleep(ctx, pollInterval) {
		node, err := n.getNode(ctx)
		if ctx.Err() != nil {
			return fmt.Errorf("hooks have not set the annotation %s=true: %w", safetext.List(missing), endedAfter(ctx, failure))
		}
		switch failure = err; {
		case isFinal(err):
			return err
		case err != nil:
			n.status("waiting: " + err.Error())
			continue
		}
		done := func(key string) bool { return node.Annotations[key] == "true" }
		missing = slices.DeleteFunc(slices.Clone(annotations), done)
		if len(missing) > 0 {
			n.status(fmt.Sprintf("waiting for hooks to set the annotation %s=true", safetext.List(missing)))
		}
	}
	return nil
}
