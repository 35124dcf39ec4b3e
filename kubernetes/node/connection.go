package node

import (
	"bytes"
	"os"
	"sync"

	"k8s.io/client-go/rest"
)

// connection makes requests with the client certificate that the kubeconfig's files have now. client-go itself reads
// the files only for a new connection, and checks for a change every five minutes: until then, an API server that no
// longer accepts the old certificate would refuse everything. It is safe for concurrent use.
type connection struct {
	config *rest.Config

	mutex     sync.Mutex
	current   rest.Interface
	cert, key []byte // of current
}

func newConnection(config *rest.Config) (*connection, error) {
	c := &connection{config: config}
	var err error
	if c.current, err = rest.UnversionedRESTClientFor(config); err != nil {
		return nil, err
	}
	return c, nil
}

// readsFiles reports whether the client certificate is in files, not in the kubeconfig itself.
func (c *connection) readsFiles() bool {
	return c.config.CertFile != "" && c.config.KeyFile != "" && len(c.config.CertData)+len(c.config.KeyData) == 0
}

// api returns a client with the newest certificate.
func (c *connection) api() rest.Interface {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.readsFiles() {
		if renewed := c.renewed(); renewed != nil {
			c.current = renewed
		}
	}
	return c.current
}

// renewed returns a client with the certificate and key in the files. It returns nil if they have not changed, or do not
// belong together: the kubelet may have replaced only one of them so far.
func (c *connection) renewed() rest.Interface {
	cert, err := os.ReadFile(c.config.CertFile)
	if err != nil {
		return nil
	}
	key, err := os.ReadFile(c.config.KeyFile)
	if err != nil || bytes.Equal(cert, c.cert) && bytes.Equal(key, c.key) {
		return nil
	}
	config := rest.CopyConfig(c.config)
	config.CertFile, config.KeyFile, config.CertData, config.KeyData = "", "", cert, key
	api, err := rest.UnversionedRESTClientFor(config)
	if err != nil {
		return nil
	}
	c.cert, c.key = cert, key
	return api
}
