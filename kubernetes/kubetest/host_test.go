package kubetest

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/locksmithd/locksmith/test/must"
)

func TestKubeletOfAHostBeginsAndEndsWithItsBoots(t *testing.T) {
	c := MustStart(t)
	disk := t.TempDir()
	must.Do(t, c.Join("node-1", disk))
	// The paths in the kubeconfig are those that the host sees.
	config, err := clientcmd.LoadFromFile(disk + HostKubeconfig)
	must.Do(t, err)
	for _, user := range config.AuthInfos {
		user.ClientCertificate, user.ClientKey = disk+user.ClientCertificate, disk+user.ClientKey
	}
	path := filepath.Join(t.TempDir(), "kubelet.conf")
	must.Do(t, clientcmd.WriteToFile(*config, path))

	boot := func() (shutDown func()) {
		ctx, cancel := context.WithCancel(t.Context())
		var ended sync.WaitGroup
		k := Kubelet{Node: "node-1", Kubeconfig: path, Logf: t.Logf}
		ended.Go(func() {
			if err := k.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		return func() {
			cancel()
			ended.Wait()
		}
	}
	shutDown := boot()
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	must.Do(t, err)
	c.MustAwaitNode(t, "node-1", "a Ready node that reports its boot", func(n *corev1.Node) bool {
		return nodeReady(n) && n.Status.NodeInfo.BootID == strings.TrimSpace(string(id)) && len(n.Spec.Taints) == 0
	})
	pod := Pod(metav1.NamespaceDefault, "web")
	pod.Spec.NodeName = "node-1"
	c.MustCreate(t, pod)
	c.MustAwaitPods(t, metav1.NamespaceDefault, "a ready pod", AllReady(1))

	shutDown()
	node, err := c.Admin.Core.Nodes().Get(t.Context(), "node-1", metav1.GetOptions{})
	must.Do(t, err)
	if nodeReady(node) {
		t.Error("after the end of its kubelet the node is Ready")
	}
	before, err := c.Admin.Core.Pods(metav1.NamespaceDefault).Get(t.Context(), "web", metav1.GetOptions{})
	must.Do(t, err)
	watch, err := c.Admin.Core.Pods(metav1.NamespaceDefault).Watch(t.Context(), metav1.ListOptions{ResourceVersion: before.ResourceVersion})
	must.Do(t, err)
	defer watch.Stop()
	defer boot()()
	// The pod of the boot before does not run, until it has started again.
	want := []bool{false, true}
	if !Ready(before) { // the node's controller has said so already
		want = want[1:]
	}
	for _, ready := range want {
		event := must.Receive(t, patience, "a change of the pod", watch.ResultChan())
		for now, ok := event.Object.(*corev1.Pod); !ok || Ready(now) != ready; now, ok = event.Object.(*corev1.Pod) {
			event = must.Receive(t, patience, "a change of the pod", watch.ResultChan())
		}
	}
	c.MustAwaitNode(t, "node-1", "a Ready node", nodeReady)
}
