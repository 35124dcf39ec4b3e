package kubetest

import (
	"fmt"

	appsv1client "k8s.io/client-go/kubernetes/typed/apps/v1"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	policyv1client "k8s.io/client-go/kubernetes/typed/policy/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"github.com/locksmithd/locksmith/test/etcdtest"
)

// Clients are the clients of one user, without a limit of their rate.
type Clients struct {
	Config *rest.Config
	Core   corev1client.CoreV1Interface
	Apps   appsv1client.AppsV1Interface
	Policy policyv1client.PolicyV1Interface
}

// newClients makes the clients of the user of a kubeconfig.
func newClients(kubeconfig string) (Clients, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return Clients{}, fmt.Errorf("make clients: %w", err)
	}
	config.QPS = -1
	core, err := corev1client.NewForConfig(config)
	if err != nil {
		return Clients{}, fmt.Errorf("make clients: %w", err)
	}
	apps, err := appsv1client.NewForConfig(config)
	if err != nil {
		return Clients{}, fmt.Errorf("make clients: %w", err)
	}
	policy, err := policyv1client.NewForConfig(config)
	if err != nil {
		return Clients{}, fmt.Errorf("make clients: %w", err)
	}
	return Clients{Config: config, Core: core, Apps: apps, Policy: policy}, nil
}

// Issue makes a client certificate of a user of the cluster, for WriteKubeconfig.
func (c *Cluster) Issue(user etcdtest.Certificate) (etcdtest.KeyPair, error) {
	pair, err := c.ca.Issue(user)
	if err != nil {
		return etcdtest.KeyPair{}, fmt.Errorf("issue certificate of user %s: %w", user.CommonName, err)
	}
	return pair, nil
}

// WriteKubeconfig writes a kubeconfig as kubeadm does: with the certificate authority of the cluster inside, and the
// paths of the files of a client certificate. The URL is that of the cluster, or of a Proxy.
func (c *Cluster) WriteKubeconfig(path, url string, user etcdtest.KeyPair) error {
	config := api.NewConfig()
	authority, err := c.authority()
	if err != nil {
		return fmt.Errorf("write kubeconfig: %w", err)
	}
	config.Clusters["test"] = &api.Cluster{Server: url, CertificateAuthorityData: authority}
	config.AuthInfos["user"] = &api.AuthInfo{ClientCertificate: user.CertFile, ClientKey: user.KeyFile}
	config.Contexts["test"] = &api.Context{Cluster: "test", AuthInfo: "user"}
	config.CurrentContext = "test"
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		return fmt.Errorf("write kubeconfig: %w", err)
	}
	return nil
}
