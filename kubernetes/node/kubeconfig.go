package node

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// kubeletKubeconfigs returns the paths of kubelets' kubeconfigs: of kubeadm, k3s, rke2, and images of clouds.
func kubeletKubeconfigs() []string {
	return []string{
		"/etc/kubernetes/kubelet.conf",
		"/var/lib/rancher/k3s/agent/kubelet.kubeconfig",
		"/var/lib/rancher/rke2/agent/kubelet.kubeconfig",
		"/var/lib/kubelet/kubeconfig",
	}
}

// userPrefix begins the user name of a kubelet, as the node authorizer requires. The name of the node follows.
const userPrefix = "system:node:"

// findKubeconfig returns the first of the files that exists.
func findKubeconfig(paths []string) (string, error) {
	for _, path := range paths {
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			return path, nil // reading it reports what else is wrong
		}
	}
	// What to do comes first: the end of a long line is cut in the status of the host.
	return "", fmt.Errorf("there is no kubeconfig of a kubelet: set LOCKSMITH_KUBERNETES_KUBECONFIG in "+
		"/etc/locksmith/kubernetes.conf, or remove locksmith-kubernetes from a host that is not a node (none of %s exists)",
		strings.Join(paths, ", "))
}

// loadKubeconfig reads a kubeconfig, and checks what can be checked without its API server.
func loadKubeconfig(path string) (*rest.Config, error) {
	config, err := readKubeconfig(path)
	if err == nil {
		err = checkCredentials(config, time.Now())
	}
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %s", path, oneLine(err.Error()))
	}
	return config, nil
}

func readKubeconfig(path string) (*rest.Config, error) {
	switch info, err := os.Stat(path); {
	case err != nil:
		return nil, cause(err)
	case info.IsDir():
		return nil, errors.New("is a directory, not a file")
	}
	// Load, unlike LoadFromFile, resolves the paths of a kubeconfig relative to its folder.
	parsed, err := (&clientcmd.ClientConfigLoadingRules{ExplicitPath: path}).Load()
	if err != nil {
		return nil, errors.New(strings.TrimPrefix(err.Error(), fmt.Sprintf("error loading config file %q: ", path)))
	}
	config, err := clientcmd.NewDefaultClientConfig(*parsed, nil).ClientConfig()
	if clientcmd.IsEmptyConfig(err) {
		return nil, errors.New("is empty, or not a kubeconfig")
	}
	return config, err
}

// checkCredentials reports expired certificates and missing programs, whose effect would otherwise look like a refusal
// of the API server.
func checkCredentials(config *rest.Config, now time.Time) error {
	if plugin := config.ExecProvider; plugin != nil {
		if _, err := exec.LookPath(plugin.Command); err != nil {
			return fmt.Errorf("its credentials come from the program %s, which cannot be run: %w", plugin.Command, cause(err))
		}
	}
	certificate, err := clientCertificate(config)
	switch file := cmp.Or(config.CertFile, "its client-certificate-data"); {
	case err != nil:
		return fmt.Errorf("client certificate: %w", err)
	case certificate == nil:
		return nil
	case now.After(certificate.NotAfter):
		return fmt.Errorf("the client certificate in %s expired at %s; the kubelet renews it as long as it runs",
			file, timestamp(certificate.NotAfter))
	case now.Before(certificate.NotBefore):
		return fmt.Errorf("the client certificate in %s is not valid before %s, and this host's clock says %s",
			file, timestamp(certificate.NotBefore), timestamp(now))
	}
	return nil
}

// clientCertificate returns the client certificate of a configuration, nil if there is none.
func clientCertificate(config *rest.Config) (*x509.Certificate, error) {
	data := config.CertData
	if len(data) == 0 && config.CertFile != "" {
		var err error
		if data, err = os.ReadFile(config.CertFile); err != nil {
			return nil, err
		}
	}
	if len(data) == 0 {
		return nil, nil
	}
	for {
		var block *pem.Block // a kubelet's file has the key beside the certificate
		if block, data = pem.Decode(data); block == nil {
			return nil, fmt.Errorf("%s has no certificate in PEM", cmp.Or(config.CertFile, "client-certificate-data"))
		}
		if block.Type == "CERTIFICATE" {
			return x509.ParseCertificate(block.Bytes)
		}
	}
}

// findName sets the name of the node: the one in the credentials, or wanted if the credentials are not of a node.
func (c *client) findName(ctx context.Context, config *rest.Config, wanted string) error {
	user := ""
	if certificate, err := clientCertificate(config); err != nil {
		return err
	} else if certificate != nil {
		user = certificate.Subject.CommonName
	}
	if user == "" && wanted == "" {
		review := &authenticationv1.SelfSubjectReview{}
		request := c.connection.api().Post().AbsPath("/apis/authentication.k8s.io/v1").Resource("selfsubjectreviews").
			Body(review.DeepCopy())
		if err := c.do(ctx, "ask for the user of the kubeconfig", request, review); err != nil {
			return err
		}
		user = review.Status.UserInfo.Username
	}
	name, isNode := strings.CutPrefix(user, userPrefix)
	switch {
	case !isNode && wanted == "":
		return fmt.Errorf("%s is for user %q, which is not a node: set --node", c.source, oneLine(user))
	case !isNode:
		c.name = wanted
		return nil
	case wanted != "" && wanted != name:
		return fmt.Errorf("--node is %s, but %s is for node %s", wanted, c.source, oneLine(name))
	}
	c.name, c.own = name, true
	return nil
}

// likelyCause returns a hint for a failed connection, "" if there is none.
func likelyCause(err error) string {
	var authority x509.UnknownAuthorityError
	var name x509.HostnameError
	if errors.As(err, &authority) || errors.As(err, &name) {
		return "is the kubeconfig for another cluster?"
	}
	return ""
}
