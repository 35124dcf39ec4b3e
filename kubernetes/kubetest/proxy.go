package kubetest

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"sync"

	"github.com/locksmithd/locksmith/test/etcdtest"
)

// The name of the proxies that the API server trusts, and the headers in which they name their client.
const (
	proxyName   = "kubetest-proxy"
	userHeader  = "X-Remote-User"
	groupHeader = "X-Remote-Group"
)

// Request is a request that a Proxy has received.
type Request struct {
	Method, Path string // the path without the query
	Serial       string // of the client's certificate
}

// Proxy stands between a client and the API server. It makes faults, and records requests. The API server sees the user
// of the client, not of the proxy. It is safe for concurrent use.
type Proxy struct {
	URL string

	server  *http.Server
	forward *httputil.ReverseProxy
	upward  *http.Transport

	mu        sync.Mutex
	requests  []Request
	intercept func(http.ResponseWriter, *http.Request) bool
}

// StartProxy starts a proxy of the cluster.
func (c *Cluster) StartProxy() (*Proxy, error) {
	p, err := c.startProxy()
	if err != nil {
		return nil, fmt.Errorf("start proxy of the API server: %w", err)
	}
	return p, nil
}

func (c *Cluster) startProxy() (*Proxy, error) {
	host := etcdtest.RandomHost()
	serving, err := c.certificate(c.ca, etcdtest.Certificate{CommonName: "proxy", Hosts: []string{host}})
	if err != nil {
		return nil, err
	}
	own, err := c.certificate(c.proxyCA, etcdtest.Certificate{CommonName: proxyName})
	if err != nil {
		return nil, err
	}
	authority, err := c.authority()
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(authority) {
		return nil, errors.New("the certificate authority has no certificate")
	}
	target, err := url.Parse(c.URL)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return nil, err
	}
	quiet := log.New(io.Discard, "", 0) // faults are the purpose
	p := &Proxy{URL: "https://" + l.Addr().String()}
	p.upward = &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{own}}, ForceAttemptHTTP2: true,
	}
	p.forward = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			user := r.In.TLS.PeerCertificates[0].Subject
			r.Out.Header[userHeader], r.Out.Header[groupHeader] = []string{user.CommonName}, user.Organization
		},
		Transport: p.upward, FlushInterval: -1, ErrorLog: quiet,
	}
	p.server = &http.Server{
		Handler: p, ErrorLog: quiet,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{serving}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert},
	}
	go func() { _ = p.server.ServeTLS(l, "", "") }() // it ends with Close, and its error says so
	return p, nil
}

// certificate issues a certificate for this process.
func (c *Cluster) certificate(ca *etcdtest.CA, request etcdtest.Certificate) (tls.Certificate, error) {
	pair, err := ca.Issue(request)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.LoadX509KeyPair(pair.CertFile, pair.KeyFile)
}

// ServeHTTP forwards a request, unless it is intercepted.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.requests = append(p.requests, Request{r.Method, r.URL.Path, r.TLS.PeerCertificates[0].SerialNumber.String()})
	intercept := p.intercept
	p.mu.Unlock()
	if intercept != nil && intercept(w, r) {
		return
	}
	p.forward.ServeHTTP(w, r)
}

// Intercept makes a function see every later request first; true says that it has answered. It may wait, until the
// request's context ends. It is called from several goroutines. Nil forwards all requests.
func (p *Proxy) Intercept(f func(http.ResponseWriter, *http.Request) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.intercept = f
}

// Requests returns the requests until now.
func (p *Proxy) Requests() []Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.requests)
}

// Close ends the proxy and its connections.
func (p *Proxy) Close() {
	_ = p.server.Close() // its error is that of a listener that is closed already
	p.upward.CloseIdleConnections()
}

// Refuse answers a request with an error, as an API server does: a status code such as 403, and a message.
func Refuse(w http.ResponseWriter, code int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	// The error is ignored: the client may have gone.
	_, _ = fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":%q,"code":%d}`, message, code)
}
