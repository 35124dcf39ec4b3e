package etcdtest

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

// Client returns a client of the server for reads and writes from outside: it connects to the server itself, past
// any proxy, with a certificate if the server requires one, and as root after EnableAuth. It is the same client
// until EnableAuth; Close closes it.
func (s *Server) Client() (*clientv3.Client, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client != nil {
		return s.client, nil
	}
	c := clientv3.Config{
		Endpoints:   []string{s.Endpoint()},
		DialTimeout: 5 * time.Second, // for signing in; everything else takes a context
		Logger:      zap.NewNop(),
		DialOptions: []grpc.DialOption{promptRedial()},
	}
	if s.o.TLS != nil {
		conf, err := s.clientTLS()
		if err != nil {
			return nil, fmt.Errorf("make client: %w", err)
		}
		c.TLS = conf
	}
	if s.auth {
		c.Username, c.Password = "root", RootPassword
	}
	client, err := clientv3.New(c)
	if err != nil {
		return nil, fmt.Errorf("make client: %w", err)
	}
	s.client = client
	return client, nil
}

func (s *Server) clientTLS() (*tls.Config, error) {
	pool := x509.NewCertPool()
	pool.AddCert(s.o.TLS.CA.cert)
	conf := &tls.Config{RootCAs: pool}
	if s.o.TLS.ClientCA == nil {
		return conf, nil
	}
	pair, err := s.o.TLS.ClientCA.Issue(Certificate{CommonName: "root"})
	if err != nil {
		return nil, err
	}
	cert, err := tls.LoadX509KeyPair(pair.CertFile, pair.KeyFile)
	if err != nil {
		return nil, err
	}
	conf.Certificates = []tls.Certificate{cert}
	return conf, nil
}

// promptRedial makes a gRPC client reconnect at once to a server that is back, where the default is to wait for a
// second or longer.
func promptRedial() grpc.DialOption {
	return grpc.WithConnectParams(grpc.ConnectParams{
		Backoff:           backoff.Config{BaseDelay: 10 * time.Millisecond, Multiplier: 1.5, Jitter: 0.2, MaxDelay: 100 * time.Millisecond},
		MinConnectTimeout: time.Second,
	})
}
