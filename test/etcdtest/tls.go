package etcdtest

import (
	"context"
	"fmt"
)

// TLS is the TLS configuration of a server.
type TLS struct {
	// CA issues the server's certificate, for its IP address.
	CA *CA
	// ClientCA, if set, makes the server refuse clients without a certificate from it.
	ClientCA *CA
}

// issue makes the certificate that the next run uses, and the flags for it.
func (s *Server) issue() error {
	if s.o.TLS == nil {
		return nil
	}
	pair, err := s.o.TLS.CA.Issue(Certificate{CommonName: s.name, Hosts: []string{hostOf(s.address)}})
	if err != nil {
		return err
	}
	s.tlsArgs = []string{"--cert-file=" + pair.CertFile, "--key-file=" + pair.KeyFile}
	if s.o.TLS.ClientCA != nil {
		s.tlsArgs = append(s.tlsArgs, "--client-cert-auth", "--trusted-ca-file="+s.o.TLS.ClientCA.File())
	}
	return nil
}

// Renew restarts the server with certificates of other authorities. The server must have been started with TLS.
// Renew is not safe for concurrent use.
func (s *Server) Renew(ctx context.Context, t TLS) error {
	s.Close()
	s.o.TLS = &t
	if err := s.issue(); err != nil {
		return fmt.Errorf("renew the certificates of %s: %w", s.name, err)
	}
	return s.Restart(ctx)
}
