package kubetest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/locksmithd/locksmith/test/etcdtest"
)

// Where a host has the kubeconfig of its kubelet, and its certificate and key, as with kubeadm.
const (
	HostKubeconfig  = "/etc/kubernetes/kubelet.conf"
	hostCertificate = "/var/lib/kubelet/pki/kubelet-client-current.pem"
)

// Join writes to the disk of a host, a folder, what its kubelet needs to be that of a node: HostKubeconfig, and the
// certificate and key that this names. The host makes the node by RunKubelet.
func (c *Cluster) Join(node, disk string) error {
	certificate := filepath.Join(disk, hostCertificate)
	kubeconfig := filepath.Join(disk, HostKubeconfig)
	for _, path := range []string{certificate, kubeconfig} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("join node %s: %w", node, err)
		}
	}
	if err := c.issueKubelet(node, certificate, 1); err != nil {
		return fmt.Errorf("join node %s: %w", node, err)
	}
	if err := c.WriteKubeconfig(kubeconfig, c.URL, etcdtest.KeyPair{CertFile: hostCertificate, KeyFile: hostCertificate}); err != nil {
		return fmt.Errorf("join node %s: %w", node, err)
	}
	return nil
}

// Kubelet is a kubelet's stand-in that is a process on a host.
type Kubelet struct {
	// Node is the name of the node, which its certificate has as well.
	Node string
	// Kubeconfig is the path of its kubeconfig.
	Kubeconfig string
	// StartAfter and EndAfter are how long pods take to be ready, and to end.
	StartAfter, EndAfter time.Duration
	// Logf logs failed requests. It is called from several goroutines.
	Logf func(format string, args ...any)
}

// Run makes the node if there is none, reports the boot and that the node is Ready, and runs its pods, until ctx ends.
// Then it reports that the node is not Ready, as a kubelet does when its host shuts down. Pods of the previous boot first
// become not ready, and then start again. Run tries failed requests again, and fails only if it cannot read the
// kubeconfig or the boot id.
func (k *Kubelet) Run(ctx context.Context) error {
	clients, err := newClients(k.Kubeconfig)
	if err != nil {
		return fmt.Errorf("run kubelet: %w", err)
	}
	boot, err := bootID()
	if err != nil {
		return fmt.Errorf("run kubelet: %w", err)
	}
	node := nodeClient{k.Node, clients}
	node.try(ctx, k.Logf, func(ctx context.Context) error {
		if err := node.create(ctx); err != nil && !apierrors.IsAlreadyExists(err) {
			return err
		}
		if err := node.setBoot(ctx, boot); err != nil {
			return err
		}
		return node.setReady(ctx, true)
	})
	work := kubelet{name: k.Node, clients: clients, logf: k.Logf, host: true, pace: func() pace { return pace{startAfter: k.StartAfter, endAfter: k.EndAfter} }}
	work.run(ctx)
	down, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	node.try(down, k.Logf, func(ctx context.Context) error { return node.setReady(ctx, false) })
	return nil
}

// nodeClient does what a kubelet does to its node.
type nodeClient struct {
	name    string
	clients Clients
}

// try calls a function until it succeeds, or ctx ends.
func (n nodeClient) try(ctx context.Context, logf func(string, ...any), f func(context.Context) error) {
	tick := time.NewTicker(retry)
	defer tick.Stop()
	for ctx.Err() == nil {
		attempt, cancel := context.WithTimeout(ctx, 2*time.Second)
		err := f(attempt)
		cancel()
		if err == nil {
			return
		}
		logf("kubelet of %s: %v", n.name, err)
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

func (n nodeClient) create(ctx context.Context) error {
	_, err := n.clients.Core.Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{
		Name: n.name, Labels: map[string]string{corev1.LabelHostname: n.name},
	}}, metav1.CreateOptions{})
	return err
}

// setReady sets the node's condition Ready.
func (n nodeClient) setReady(ctx context.Context, ready bool) error {
	condition := corev1.NodeCondition{
		Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady",
		LastHeartbeatTime: metav1.Now(), LastTransitionTime: metav1.Now(),
	}
	if !ready {
		condition.Status, condition.Reason = corev1.ConditionFalse, "KubeletNotReady"
	}
	return n.patchStatus(ctx, map[string]any{"conditions": []corev1.NodeCondition{condition}})
}

// setBoot sets the boot id in the node's status.
func (n nodeClient) setBoot(ctx context.Context, id string) error {
	return n.patchStatus(ctx, map[string]any{"nodeInfo": map[string]any{"bootID": id}})
}

func (n nodeClient) patchStatus(ctx context.Context, status map[string]any) error {
	patch, err := json.Marshal(map[string]any{"status": status})
	if err != nil {
		return err
	}
	_, err = n.clients.Core.Nodes().Patch(ctx, n.name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	return err
}

// bootID returns the boot id of this host.
func bootID() (string, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return string(bytes.TrimSpace(id)), err
}
