package kubetest

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/realpart"
)

// Options are the options of a cluster.
type Options struct {
	Programs
	// Dir is an existing folder for the data, logs and certificates of this cluster alone, which does not remove it.
	Dir string
	// Address is the host:port of the API server, an IP address of this machine. "" is a free one of the loopback.
	Address string
	// Logf, if not nil, logs failed requests of the stand-ins. It is called from several goroutines.
	Logf func(format string, args ...any)
}

// Cluster is a control plane. It is safe for concurrent use.
type Cluster struct {
	// Admin may do everything.
	Admin Clients
	// AdminKubeconfig is the path of the administrator's kubeconfig, and AdminPair of the files that it names.
	AdminKubeconfig string
	AdminPair       etcdtest.KeyPair
	// CAFile is the path of the certificate authority of the API server.
	CAFile string
	// URL is that of the API server.
	URL string

	o          Options
	ca         *etcdtest.CA // of servers and users
	proxyCA    *etcdtest.CA // of proxies that the API server trusts
	etcd       *etcdtest.Server
	apiServer  *server
	controller *server
	stop       context.CancelFunc // ends the stand-ins
	running    context.Context    // of the stand-ins
	ended      sync.WaitGroup
}

// errAddressInUse means that another process has taken an address first.
var errAddressInUse = errors.New("address in use")

// Start runs a cluster without nodes and waits, as long as ctx allows, until pods can be created. An error contains the
// end of the log of what failed.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	for {
		c, err := start(ctx, o)
		if errors.Is(err, errAddressInUse) && o.Address == "" && ctx.Err() == nil {
			continue // with another address
		}
		if err != nil {
			return nil, fmt.Errorf("start Kubernetes: %w", err)
		}
		return c, nil
	}
}

func start(ctx context.Context, o Options) (_ *Cluster, err error) {
	if o.Logf == nil {
		o.Logf = func(string, ...any) {}
	}
	if o.Address == "" {
		if o.Address, err = etcdtest.FreeAddress(etcdtest.RandomHost()); err != nil {
			return nil, err
		}
	}
	c := &Cluster{o: o, URL: "https://" + o.Address}
	c.running, c.stop = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			c.Close()
		}
	}()
	etcdDir, err := c.folder("etcd-data")
	if err != nil {
		return nil, err
	}
	if c.etcd, err = etcdtest.Start(ctx, etcdtest.Options{Binary: o.Etcd, Dir: etcdDir}); err != nil {
		return nil, err
	}
	if err := c.setUp(); err != nil {
		return nil, err
	}
	if err := c.RestartAPIServer(ctx); err != nil {
		return nil, err
	}
	if err := c.checkVersion(ctx); err != nil {
		return nil, err
	}
	if err := c.controller.run(); err != nil {
		return nil, err
	}
	c.ended.Go(c.schedule)
	return c, c.awaitServiceAccount(ctx, metav1.NamespaceDefault)
}

// folder makes an empty folder below the cluster's own.
func (c *Cluster) folder(name string) (string, error) {
	path := filepath.Join(c.o.Dir, name)
	if err := os.RemoveAll(path); err != nil { // what an attempt on another address has left
		return "", err
	}
	return path, os.MkdirAll(path, 0o700)
}

// setUp makes the certificates, the administrator, and the command lines of the servers.
func (c *Cluster) setUp() error {
	var err error
	for name, ca := range map[string]**etcdtest.CA{"ca": &c.ca, "proxy-ca": &c.proxyCA} {
		dir, err := c.folder(name)
		if err != nil {
			return err
		}
		if *ca, err = etcdtest.NewCA(dir); err != nil {
			return err
		}
	}
	host, port, err := net.SplitHostPort(c.o.Address)
	if err != nil {
		return err
	}
	serving, err := c.ca.Issue(etcdtest.Certificate{CommonName: "kube-apiserver", Hosts: []string{host}})
	if err != nil {
		return err
	}
	accounts, err := c.ca.Issue(etcdtest.Certificate{CommonName: "service-accounts"})
	if err != nil {
		return err
	}
	c.CAFile = c.ca.File()
	c.AdminPair, err = c.ca.Issue(etcdtest.Certificate{CommonName: "admin", Organizations: []string{"system:masters"}})
	if err != nil {
		return err
	}
	c.AdminKubeconfig = filepath.Join(c.o.Dir, "admin.conf")
	if err := c.WriteKubeconfig(c.AdminKubeconfig, c.URL, c.AdminPair); err != nil {
		return err
	}
	if c.Admin, err = newClients(c.AdminKubeconfig); err != nil {
		return err
	}
	c.apiServer = &server{program: c.o.APIServer, logFile: filepath.Join(c.o.Dir, "kube-apiserver.log"), args: []string{
		"--etcd-servers=" + c.etcd.Endpoint(),
		"--bind-address=" + host,
		"--secure-port=" + port,
		"--advertise-address=192.0.2.1",   // of the service "kubernetes": a loopback address is not allowed, and nobody uses it
		"--endpoint-reconciler-type=none", // so there are no endpoints with that address
		"--service-cluster-ip-range=198.51.100.0/24",
		"--tls-cert-file=" + serving.CertFile,
		"--tls-private-key-file=" + serving.KeyFile,
		"--client-ca-file=" + c.ca.File(),
		"--anonymous-auth=false",
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + accounts.CertFile,
		"--service-account-signing-key-file=" + accounts.KeyFile,
		"--requestheader-client-ca-file=" + c.proxyCA.File(),
		"--requestheader-allowed-names=" + proxyName,
		"--requestheader-username-headers=" + userHeader,
		"--requestheader-group-headers=" + groupHeader,
	}}
	c.controller = &server{program: c.o.ControllerManager, logFile: filepath.Join(c.o.Dir, "kube-controller-manager.log"), args: []string{
		"--kubeconfig=" + c.AdminKubeconfig,
		"--secure-port=0",
		"--leader-elect=false",
		"--controllers=" + strings.Join(controllers, ","),
		"--kube-api-qps=1000",
		"--kube-api-burst=2000",
		// The kubelets' stand-ins renew no leases: a node is NotReady when a test says so.
		"--node-monitor-grace-period=24h",
	}}
	return nil
}

// controllers are the ones that a drain depends on, and the ones that these need.
var controllers = []string{
	"daemonset-controller", "deployment-controller", "disruption-controller", "garbage-collector-controller", "job-controller",
	"namespace-controller", "node-lifecycle-controller", "replicaset-controller", "serviceaccount-controller", "statefulset-controller",
}

// checkVersion refuses an API server that was built from another version than the module pins.
func (c *Cluster) checkVersion(ctx context.Context) error {
	var version struct{ GitVersion string }
	data, err := c.Admin.Core.RESTClient().Get().AbsPath("/version").DoRaw(ctx)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, &version); err != nil {
		return err
	}
	if version.GitVersion != c.o.Version {
		return &realpart.Missing{Part: fmt.Sprintf("kube-apiserver %s (%s is %s)", c.o.Version, c.o.APIServer, version.GitVersion), Remedy: remedy}
	}
	return nil
}

// RestartAPIServer runs the API server, after killing it if it still runs, and waits until it is ready. Data and address
// stay the same.
func (c *Cluster) RestartAPIServer(ctx context.Context) error {
	c.apiServer.kill()
	if err := c.apiServer.run(); err != nil {
		return err
	}
	return c.awaitReady(ctx)
}

// StopAPIServer kills the API server. Connections are refused until RestartAPIServer.
func (c *Cluster) StopAPIServer() { c.apiServer.kill() }

// PauseAPIServer stops the API server, with its connections open and silent, until ResumeAPIServer.
func (c *Cluster) PauseAPIServer(ctx context.Context) error { return c.apiServer.process().Pause(ctx) }

// ResumeAPIServer ends PauseAPIServer.
func (c *Cluster) ResumeAPIServer(ctx context.Context) error {
	return c.apiServer.process().Resume(ctx)
}

// awaitReady waits until the API server says that it is ready, or has ended.
func (c *Cluster) awaitReady(ctx context.Context) error {
	process := c.apiServer.process()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		try, cancel := context.WithTimeout(ctx, time.Second)
		status := 0
		err := c.Admin.Core.RESTClient().Get().AbsPath("/readyz").Do(try).StatusCode(&status).Error()
		cancel()
		if err == nil && status == http.StatusOK {
			return nil
		}
		select {
		case <-tick.C:
		case <-process.Done():
			tail := c.apiServer.logTail()
			if strings.Contains(tail, "address already in use") {
				return errAddressInUse
			}
			return fmt.Errorf("kube-apiserver ended (%w); %s", process.Err(), tail)
		case <-ctx.Done():
			return fmt.Errorf("kube-apiserver is not ready: %w; %s", err, c.apiServer.logTail())
		}
	}
}

// Close ends the cluster and the stand-ins of its nodes. The files stay.
func (c *Cluster) Close() {
	c.stop()
	c.ended.Wait()
	for _, s := range []*server{c.controller, c.apiServer} {
		if s != nil {
			s.kill()
		}
	}
	if c.etcd != nil {
		c.etcd.Close()
	}
}

// Log returns the end of the log of each server, for messages.
func (c *Cluster) Log() string {
	var tails []string
	for _, s := range []*server{c.apiServer, c.controller} {
		if s != nil {
			tails = append(tails, s.logTail())
		}
	}
	return strings.Join(tails, "\n")
}

// authority returns the certificate that clients trust.
func (c *Cluster) authority() ([]byte, error) { return os.ReadFile(c.ca.File()) }

// awaitServiceAccount waits for the service account of a namespace, which every pod needs.
func (c *Cluster) awaitServiceAccount(ctx context.Context, namespace string) error {
	accounts := c.Admin.Core.ServiceAccounts(namespace)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		list, err := accounts.List(ctx, metav1.ListOptions{})
		if err == nil && len(list.Items) > 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("namespace %s has no service account: %w; %s", namespace, cmp.Or(err, ctx.Err()), c.controller.logTail())
		}
	}
}
