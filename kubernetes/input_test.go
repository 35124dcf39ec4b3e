package main_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"github.com/locksmithd/locksmith/kubernetes/kubetest"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
)

// kubeconfig returns the path of a copy of the kubelet's kubeconfig, after an edit.
func (c *cluster) kubeconfig(t *testing.T, edit func(*api.Cluster, *api.AuthInfo)) string {
	t.Helper()
	config, err := clientcmd.LoadFromFile(c.one.Kubeconfig)
	must.Do(t, err)
	edit(config.Clusters["test"], config.AuthInfos["user"])
	path := filepath.Join(t.TempDir(), "kubelet.conf")
	must.Do(t, clientcmd.WriteToFile(*config, path))
	return path
}

// issued returns the path of a kubeconfig with a certificate of an authority.
func (c *cluster) issued(t *testing.T, issue func(etcdtest.Certificate) (etcdtest.KeyPair, error), user etcdtest.Certificate) string {
	t.Helper()
	pair, err := issue(user)
	must.Do(t, err)
	return c.kubeconfig(t, func(_ *api.Cluster, user *api.AuthInfo) {
		user.ClientCertificate, user.ClientKey = pair.CertFile, pair.KeyFile
	})
}

// With a kubeconfig or a name that is wrong every command fails with one line, and does nothing to the node.
func TestWrongKubeconfigDoesNothing(t *testing.T) {
	c := newCluster(t)
	c.onNodeOne(t, 1, kubetest.ReplicaSet(namespace, "web", 1))
	other, err := etcdtest.NewCA(t.TempDir())
	must.Do(t, err)
	kubelet := etcdtest.Certificate{CommonName: "system:node:node-1", Organizations: []string{"system:nodes"}}
	expired := kubelet
	expired.NotAfter = time.Now().Add(-time.Minute)
	empty := filepath.Join(t.TempDir(), "empty")
	must.Do(t, os.WriteFile(empty, nil, 0o600))
	var failures []func() // of programs that wait before they fail
	for _, test := range []struct {
		name, kubeconfig, node string
		says                   []string
	}{
		{"missing", "/nonexistent/kubelet.conf", "", []string{"kubeconfig /nonexistent/kubelet.conf: no such file or directory"}},
		{"directory", filepath.Dir(empty), "", []string{"is a directory, not a file"}},
		{"empty", empty, "", []string{"is empty, or not a kubeconfig"}},
		{"expired", c.issued(t, c.Issue, expired), "", []string{"the client certificate in ", " expired at "}},
		{"exec plugin that is absent", c.kubeconfig(t, func(_ *api.Cluster, user *api.AuthInfo) {
			*user = api.AuthInfo{Exec: &api.ExecConfig{
				APIVersion: "client.authentication.k8s.io/v1", Command: "absent-plugin", InteractiveMode: api.NeverExecInteractiveMode,
			}}
		}), "node-1", []string{"the program absent-plugin, which cannot be run"}},
		{"authority of another cluster", c.kubeconfig(t, func(cluster *api.Cluster, _ *api.AuthInfo) {
			cluster.CertificateAuthority, cluster.CertificateAuthorityData = other.File(), nil
		}), "", []string{c.URL, "is the kubeconfig for another cluster?"}},
		{"credentials of another cluster", c.issued(t, other.Issue, kubelet), "", []string{c.URL + " does not accept the credentials of kubeconfig "}},
		{"node that never existed", c.AdminKubeconfig, "node-9", []string{"node node-9 does not exist at " + c.URL + ": check --node and --kubeconfig"}},
		{"no node", c.AdminKubeconfig, "", []string{`is for user "admin", which is not a node: set --node`}},
		{"another node", c.one.Kubeconfig, "node-2", []string{"--node is node-2, but kubeconfig ", " is for node node-1"}},
	} {
		t.Log(test.name)
		waiting := start(t, test.kubeconfig, "uncordon", "--ready-timeout=10s", "--node="+test.node)
		failures = append(failures, func() { waiting.fail(t, test.says...) })
		for _, args := range [][]string{{"drain"}, {"uncordon", "--cancelled"}, {"may-reboot"}} {
			start(t, test.kubeconfig, append(args, "--node="+test.node)...).fail(t, test.says...)
		}
	}
	for _, failure := range failures {
		failure()
	}
	for _, args := range [][]string{
		{"drain", "--pod-selector=a in ("}, {"drain", "--timeout=ten"}, {"drain", "web-1"}, {"may-reboot", "--blocking-pod-selector=a in ("},
	} {
		start(t, c.one.Kubeconfig, args...).failWith(t, 2)
	}
	for _, command := range []string{"drain", "uncordon", "may-reboot"} { // of a variable each command says so
		startWith(t, []string{"LOCKSMITH_KUBERNETES_POD_SELECTOR=a in ("}, c.one.Kubeconfig, command).
			fail(t, `LOCKSMITH_KUBERNETES_POD_SELECTOR="a in ("`, "unable to parse")
	}
	c.untouched(t)
	c.MustAwaitPods(t, namespace, "the pod, where it was", allOn("node-1", 1))
}
