package kubetest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/locksmithd/locksmith/test/etcdtest"
)

// Node is a node with a stand-in for its kubelet, which has no other credentials than a kubelet. It is safe for
// concurrent use.
type Node struct {
	Name string
	// Kubeconfig is the path of the kubelet's kubeconfig, for the API server itself.
	Kubeconfig string
	// Certificate is the path of the kubelet's certificate and key, in one file, which Rotate replaces.
	Certificate string
	// Kubelet has the kubelet's rights.
	Kubelet Clients

	cluster *Cluster
	dir     string

	mu        sync.Mutex
	rotations int
	stop      func() // nil while the stand-in is stopped
	pace      pace
	changed   chan struct{} // wakes the stand-in after a change of its pace
}

// AddNode makes a node as its kubelet does, Ready and with this machine's boot id, and starts its kubelet's stand-in.
func (c *Cluster) AddNode(ctx context.Context, name string) (*Node, error) {
	n, err := c.addNode(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("add node %s: %w", name, err)
	}
	return n, nil
}

func (c *Cluster) addNode(ctx context.Context, name string) (*Node, error) {
	dir, err := c.folder(filepath.Join("nodes", name))
	if err != nil {
		return nil, err
	}
	n := &Node{
		Name: name, Kubeconfig: filepath.Join(dir, "kubelet.conf"), Certificate: filepath.Join(dir, "kubelet-client-current.pem"),
		cluster: c, dir: dir, changed: make(chan struct{}, 1),
	}
	if err := n.Rotate(); err != nil {
		return nil, err
	}
	if err := n.WriteKubeconfig(n.Kubeconfig, c.URL); err != nil {
		return nil, err
	}
	if n.Kubelet, err = newClients(n.Kubeconfig); err != nil {
		return nil, err
	}
	if err := n.Register(ctx); err != nil {
		return nil, err
	}
	n.Start()
	// The node lifecycle controller removes the taint that a new node has.
	return n, c.AwaitNode(ctx, name, "node "+name+" without a taint", func(node *corev1.Node) bool { return len(node.Spec.Taints) == 0 })
}

// WriteKubeconfig writes a kubeconfig of the kubelet for a URL: that of the cluster, or of a Proxy.
func (n *Node) WriteKubeconfig(path, url string) error {
	return n.cluster.WriteKubeconfig(path, url, etcdtest.KeyPair{CertFile: n.Certificate, KeyFile: n.Certificate})
}

// Rotate gives the kubelet a new certificate and key, as a kubelet does: Certificate is a symbolic link, which is
// replaced in one step. The API server still accepts the old ones.
func (n *Node) Rotate() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.rotations++
	return n.cluster.issueKubelet(n.Name, n.Certificate, n.rotations)
}

// issueKubelet writes the n-th certificate and key of a node's kubelet into one file, in the folder of path. In one step,
// path becomes a symbolic link to this file.
func (c *Cluster) issueKubelet(node, path string, n int) error {
	pair, err := c.ca.Issue(etcdtest.Certificate{CommonName: "system:node:" + node, Organizations: []string{"system:nodes"}})
	if err != nil {
		return err
	}
	certificate, err := os.ReadFile(pair.CertFile)
	if err != nil {
		return err
	}
	key, err := os.ReadFile(pair.KeyFile)
	if err != nil {
		return err
	}
	file := fmt.Sprintf("kubelet-client-%d.pem", n)
	if err := os.WriteFile(filepath.Join(filepath.Dir(path), file), append(certificate, key...), 0o600); err != nil {
		return err
	}
	link := path + ".new"
	if err := os.Symlink(file, link); err != nil {
		return err
	}
	return os.Rename(link, path)
}

func (n *Node) client() nodeClient { return nodeClient{n.Name, n.Kubelet} }

// Register makes the node, which does not exist, as its kubelet does when it starts: Ready and with this machine's boot id.
func (n *Node) Register(ctx context.Context) error {
	if err := n.client().create(ctx); err != nil {
		return err
	}
	boot, err := bootID()
	if err != nil {
		return err
	}
	if err := n.SetBoot(ctx, boot); err != nil {
		return err
	}
	return n.SetReady(ctx, true)
}

// SetReady sets the node's condition Ready, as its kubelet does.
func (n *Node) SetReady(ctx context.Context, ready bool) error {
	return n.client().setReady(ctx, ready)
}

// SetBoot sets the boot id in the node's status, as its kubelet does after a boot.
func (n *Node) SetBoot(ctx context.Context, id string) error { return n.client().setBoot(ctx, id) }

// CreateMirrorPod makes the pod that stands for a static pod of the kubelet.
func (n *Node) CreateMirrorPod(ctx context.Context, namespace, name string) error {
	node, err := n.Kubelet.Core.Nodes().Get(ctx, n.Name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	pod := Pod(namespace, name)
	pod.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "0123456789abcdef"}
	controller := true
	pod.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: n.Name, UID: node.UID, Controller: &controller}}
	pod.Spec.NodeName = n.Name
	_, err = n.Kubelet.Core.Pods(namespace).Create(ctx, pod, metav1.CreateOptions{})
	return err
}

// EndPodsAfter makes pods that are being deleted end after a time, which is 0 for a new node.
func (n *Node) EndPodsAfter(d time.Duration) { n.change(func() { n.pace.endAfter = d }) }

// HoldPods makes pods that are being deleted go on running until ReleasePods.
func (n *Node) HoldPods() { n.change(func() { n.pace.held = true }) }

// ReleasePods ends HoldPods.
func (n *Node) ReleasePods() { n.change(func() { n.pace.held = false }) }

func (n *Node) change(f func()) {
	n.mu.Lock()
	f()
	n.mu.Unlock()
	select {
	case n.changed <- struct{}{}:
	default:
	}
}
