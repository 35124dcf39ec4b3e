package processes

import (
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
)

// The certificates that the daemon needs depend on whether etcd requires a client certificate, and on whether the
// system's roots include the authority of etcd's own.
func TestEtcdWithTLS(t *testing.T) {
	t.Parallel()
	ca := etcdtest.MustCA(t)
	pair := ca.MustIssue(t, etcdtest.Certificate{CommonName: "locksmith"})
	authority := "LOCKSMITHD_ETCD_CAFILE=" + ca.File()
	certificate := "LOCKSMITHD_ETCD_CERTFILE=" + pair.CertFile + "\nLOCKSMITHD_ETCD_KEYFILE=" + pair.KeyFile
	for name, test := range map[string]struct {
		clientCA  *etcdtest.CA // whose certificates etcd asks for
		conf, env []string
	}{
		"a CA alone":                            {conf: []string{authority}},
		"a CA and a certificate":                {clientCA: ca, conf: []string{authority, certificate}},
		"a certificate, and the system's roots": {clientCA: ca, conf: []string{certificate}, env: []string{"SSL_CERT_FILE=" + ca.File()}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			forEachOwnEtcd(t, etcdtest.Options{TLS: &etcdtest.TLS{CA: ca, ClientCA: test.clientCA}}, func(t *testing.T, s *etcdtest.Server) {
				g := newGroup(t, s)
				h := startPending(t, g.conf(test.conf...), withEnv(test.env...))
				h.awaitReboot()
				g.awaitHolders(h.id)
			})
		})
	}
}

// A certificate that etcd rejects is replaced without a restart: the daemon reads the files again.
func TestEtcdThatDoesNotTakeTheCertificateIsWaitedFor(t *testing.T) {
	t.Parallel()
	ca, foreign := etcdtest.MustCA(t), etcdtest.MustCA(t)
	s := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{TLS: &etcdtest.TLS{CA: ca, ClientCA: ca}})
	g := newGroup(t, s)
	wrong, right := foreign.MustIssue(t, etcdtest.Certificate{CommonName: "locksmith"}), ca.MustIssue(t, etcdtest.Certificate{CommonName: "locksmith"})
	h := startPending(t, g.conf("LOCKSMITHD_ETCD_CAFILE="+ca.File(), "LOCKSMITHD_ETCD_CERTFILE="+wrong.CertFile, "LOCKSMITHD_ETCD_KEYFILE="+wrong.KeyFile))
	h.awaitStatus("starting", "the last attempt failed", s.Endpoint()+": the server does not accept the client certificate in "+wrong.CertFile, "LOCKSMITHD_ETCD_CERTFILE in ", "trying again")
	h.wantNoReboot()
	must.Do(t, os.Rename(right.KeyFile, wrong.KeyFile))
	must.Do(t, os.Rename(right.CertFile, wrong.CertFile))
	h.awaitReboot()
	g.awaitHolders(h.id)
}

// The password appears neither in the log nor in the status.
func TestEtcdWithUserAndPassword(t *testing.T) {
	t.Parallel()
	forEachOwnEtcd(t, etcdtest.Options{}, func(t *testing.T, s *etcdtest.Server) {
		const password = "correct-horse"
		must.Do(t, s.EnableAuth(soon(t), etcdtest.User{
			Name: "locksmith", Password: password,
			Prefix: "coreos.com/updateengine/rebootlock/", Permission: clientv3.PermissionType(clientv3.PermReadWrite),
		}))
		g := newGroup(t, s)
		h := startPending(t, g.conf("LOCKSMITHD_ETCD_USERNAME=locksmith", "LOCKSMITHD_ETCD_PASSWORD=wrong-"+password, "LOCKSMITHD_DEBUG=true"))
		h.awaitStatus("starting", "the user name or password of user", "is wrong")
		h.wantNoReboot()
		must.Do(t, h.Configure(g.conf("LOCKSMITHD_ETCD_USERNAME=locksmith", "LOCKSMITHD_ETCD_PASSWORD="+password, "LOCKSMITHD_DEBUG=true")))
		h.signal(syscall.SIGHUP)
		h.awaitReboot()
		g.awaitHolders(h.id)
		if strings.Contains(h.Log(), password) || slices.ContainsFunc(h.Notices(), func(n string) bool { return strings.Contains(n, password) }) {
			t.Error("the password is in the log or in the status")
		}
	})
}
