package node

import (
	"bytes"
	"os"
	"sync"

	"k8s.io/client-go/rest"
)

// connection makes requests with the client certificate that is in the kubeconfig's files now. client-go itself reads the
// files only for a new connection, and looks for a change every five minutes: an API server that no longer takes the old
// certificate would refuse everything until then. It is safe for concurrent use.
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

// readsFiles reports whether there is a client certificate in files.
func (c *connection) readsFiles() bool {
	return c.config.CertFile != "" && c.config.KeyFile != "" && len(c.config.CertData)+len(c.config.KeyData) == 0
}

// api returns what begins a request.
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

// renewed returns a client with the certificate and key in the files, nil if they are those of the current one or do not
// fit together: the kubelet may be in the middle of replacing one after the other.
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
