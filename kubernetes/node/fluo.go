package node

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/locksmithd/locksmith/internal/backoff"
	"github.com/locksmithd/locksmith/internal/safetext"
)

// Annotations and labels of the Flatcar Linux Update Operator. Its agent on each node and its operator change them in
// turns; here both are this program. DaemonSets that select one of the two hook labels start when it is set.
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

// fluoBeforeReboot says that a reboot is needed, and starts the hooks before it.
func (n *Node) fluoBeforeReboot(node *corev1.Node) {
	node.Annotations[fluoNeeded] = "true"
	node.Labels[fluoNeeded] = "true"
	if n.NewVersion != "" {
		node.Annotations[fluoStatus] = "UPDATE_STATUS_UPDATED_NEED_REBOOT"
		node.Annotations[fluoNewVersion] = n.NewVersion
	}
	startHooks(node, fluoBeforeReboot, n.BeforeRebootAnnotations)
}

// fluoReboot says that hooks are done, and that the node goes.
func (n *Node) fluoReboot(node *corev1.Node) {
	endHooks(node, fluoBeforeReboot, n.BeforeRebootAnnotations)
	node.Annotations[fluoOK] = "true"
	node.Annotations[fluoInProgress] = "true"
	if !node.Spec.Unschedulable {
		node.Annotations[fluoCordoned] = "true"
	}
}

// fluoAfterReboot runs the hooks after a reboot that followed fluoReboot.
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

// fluoEnd leaves the node as the agent leaves it after a reboot. A cordon of the agent is lifted, also one that the
// agent itself made before it was replaced by this program.
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

// startHooks sets the label that hooks select, and forgets what earlier ones have said. Those that run already go on.
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

// waitForAnnotations waits until hooks have set all of the annotations to true, or ctx ends.
func (n *Node) waitForAnnotations(ctx context.Context, annotations []string) error {
	missing := annotations
	for ; len(missing) > 0; backoff.Sleep(ctx, pollInterval) {
		node, err := n.getNode(ctx)
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("hooks have not set the annotation %s=true: %w", safetext.List(missing), ended(ctx))
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
