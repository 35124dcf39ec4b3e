package node

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/locksmithd/locksmith/test/must"
)

// writeClientPEM writes a file as a kubelet keeps it: a client certificate for a user, and its key.
func writeClientPEM(t *testing.T, path, user string, from, to time.Time) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must.Do(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: user}, NotBefore: from, NotAfter: to}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must.Do(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	must.Do(t, err)
	data := append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})...)
	must.Do(t, os.WriteFile(path, data, 0o600))
}

// kubeconfig writes a kubeconfig with the YAML of a cluster and of a user.
func kubeconfig(t *testing.T, cluster, user string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubelet.conf")
	must.Do(t, os.WriteFile(path, fmt.Appendf(nil, `apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {%s}}]
users: [{name: u, user: {%s}}]
`, cluster, user), 0o600))
	return path
}

func TestWrongKubeconfigIsSaidInOneLine(t *testing.T) {
	folder := t.TempDir()
	now, pemFile := time.Now(), filepath.Join(folder, "client.pem")
	file := func(content string) func(t *testing.T) string {
		return func(t *testing.T) string {
			path := filepath.Join(t.TempDir(), "file")
			must.Do(t, os.WriteFile(path, []byte(content), 0o600))
			return path
		}
	}
	credentials := func(from, to time.Duration, user string) func(t *testing.T) string {
		return func(t *testing.T) string {
			writeClientPEM(t, pemFile, user, now.Add(from), now.Add(to))
			return kubeconfig(t, "server: https://127.0.0.1:1", "client-certificate: "+pemFile+", client-key: "+pemFile)
		}
	}
	for name, test := range map[string]struct {
		path func(t *testing.T) string
		want []string
	}{
		"missing":          {func(*testing.T) string { return "/nonexistent/kubelet.conf" }, []string{"kubeconfig /nonexistent/kubelet.conf: no such file or directory"}},
		"directory":        {func(*testing.T) string { return folder }, []string{"kubeconfig " + folder + ": is a directory, not a file"}},
		"empty":            {file(""), []string{"is empty, or not a kubeconfig"}},
		"another document": {file("apiVersion: v1\nkind: Pod\n"), []string{"kubeconfig ", "Pod"}},
		"not YAML":         {file("a: [\n"), []string{"kubeconfig ", "yaml: line 1"}},
		"no cluster":       {func(t *testing.T) string { return kubeconfig(t, "", "") }, []string{"no server found for cluster"}},
		"no such key": {func(t *testing.T) string {
			return kubeconfig(t, "server: https://127.0.0.1:1", "client-certificate: /nonexistent/a, client-key: /nonexistent/b")
		}, []string{"/nonexistent/a", "no such file"}},
		"expired":       {credentials(-2*time.Hour, -time.Hour, "system:node:web-1"), []string{"the client certificate in " + pemFile + " expired at 20", "the kubelet renews it"}},
		"not valid yet": {credentials(time.Hour, 2*time.Hour, "system:node:web-1"), []string{"is not valid before 20", "this host's clock says"}},
		"another node":  {credentials(-time.Hour, time.Hour, "system:node:web-2"), []string{"--node is web-1, but kubeconfig ", " is for node web-2"}},
		"absent plugin": {func(t *testing.T) string {
			return kubeconfig(t, "server: https://127.0.0.1:1", "exec: {apiVersion: client.authentication.k8s.io/v1, command: absent-plugin, interactiveMode: Never}")
		}, []string{"its credentials come from the program absent-plugin, which cannot be run: executable file not found in $PATH"}},
		"no certificate": {func(t *testing.T) string {
			path := file("x")(t)
			return kubeconfig(t, "server: https://127.0.0.1:1", "client-certificate: "+path+", client-key: "+path)
		}, []string{"has no certificate in PEM"}},
		"address of no API": {func(t *testing.T) string { return kubeconfig(t, `server: "https://[::1"`, "") }, []string{"kubeconfig ", "[::1"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Connect(t.Context(), test.path(t), "web-1", Settings{}, nil)
			oneLineWith(t, err, test.want...)
		})
	}
}

// oneLineWith checks that an error is one line, with all of some texts.
func oneLineWith(t *testing.T, err error, texts ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("there is no error")
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) || strings.Contains(err.Error(), "\n") {
			t.Errorf("the error is\n%q, want %q in one line", err, text)
		}
	}
}

func TestServerThatIsNotOursIsSaidInOneLine(t *testing.T) {
	other := httptest.NewUnstartedServer(http.NotFoundHandler())
	other.Config.ErrorLog = log.New(io.Discard, "", 0)
	other.StartTLS() // with a certificate of its own authority
	t.Cleanup(other.Close)
	plain := httptest.NewServer(newServer())
	t.Cleanup(plain.Close)
	denying := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, 401, metav1.StatusReasonUnauthorized, "Unauthorized")
	}))
	t.Cleanup(denying.Close)
	authority := filepath.Join(t.TempDir(), "ca.pem")
	writeClientPEM(t, authority, "authority", time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	must.Do(t, err)
	closed.Close()
	for name, test := range map[string]struct {
		cluster string
		want    []string
	}{
		"another cluster": {"server: " + other.URL + ", certificate-authority: " + authority, []string{other.URL, "unknown authority", "is the kubeconfig for another cluster?"}},
		"not TLS":         {"server: " + strings.Replace(plain.URL, "http:", "https:", 1), []string{"server gave HTTP response to HTTPS client"}},
		"down":            {"server: http://" + closed.Addr().String(), []string{"http://" + closed.Addr().String() + ": dial tcp", "connection refused"}},
		"not accepted":    {"server: " + denying.URL, []string{"Unauthorized; " + denying.URL + " does not accept the credentials of kubeconfig "}},
		"not a node":      {"server: " + plain.URL, []string{"node web-7 does not exist at " + plain.URL + ": check --node and --kubeconfig"}},
	} {
		t.Run(name, func(t *testing.T) {
			n, err := Connect(t.Context(), kubeconfig(t, test.cluster, "token: secret"), "web-7", Settings{Timeout: time.Minute}, func(string) {})
			must.Do(t, err)
			_, err = n.MayReboot(t.Context())
			oneLineWith(t, err, test.want...)
			oneLineWith(t, n.Uncordon(t.Context(), true), test.want...)
			if name != "not a node" { // what lists its pods does not ask for the node
				oneLineWith(t, n.Drain(t.Context()), test.want...)
			}
		})
	}
}

func TestFirstKubeconfigThatExistsIsUsed(t *testing.T) {
	folder := t.TempDir()
	a, b, c := filepath.Join(folder, "a"), filepath.Join(folder, "b"), filepath.Join(folder, "c")
	must.Do(t, os.WriteFile(b, nil, 0o600))
	must.Do(t, os.WriteFile(c, nil, 0o600))
	if got, err := findKubeconfig([]string{a, b, c}); got != b || err != nil {
		t.Errorf("%s, %v, want %s", got, err, b)
	}
	_, err := findKubeconfig([]string{a, a + "a"})
	oneLineWith(t, err, a+", "+a+"a", "set LOCKSMITH_KUBERNETES_KUBECONFIG in /etc/locksmith/kubernetes.conf, ", "a host that is not a node")
}

func TestNameOfTheNodeComesFromTheCredentials(t *testing.T) {
	file := filepath.Join(t.TempDir(), "client.pem")
	user := ""
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/apis/authentication.k8s.io/v1/selfsubjectreviews" || r.Method != "POST" {
			refuse(w, 404, metav1.StatusReasonNotFound, r.URL.Path)
			return
		}
		review := authenticationv1.SelfSubjectReview{TypeMeta: metav1.TypeMeta{APIVersion: "authentication.k8s.io/v1", Kind: "SelfSubjectReview"}}
		review.Status.UserInfo.Username = user
		send(w, 201, review)
	}))
	t.Cleanup(server.Close)
	for name, test := range map[string]struct {
		certificate, token string // users
		wanted             string
		name, err          string
	}{
		"certificate":                  {certificate: "system:node:web-1", name: "web-1"},
		"certificate and flag":         {certificate: "system:node:web-1", wanted: "web-1", name: "web-1"},
		"token":                        {token: "system:node:web-1", name: "web-1"},
		"flag":                         {token: "system:serviceaccount:a:b", wanted: "web-1", name: "web-1"},
		"certificate of another":       {certificate: "admin", wanted: "web-1", name: "web-1"},
		"certificate of another alone": {certificate: "admin", err: `is for user "admin", which is not a node: set --node`},
		"token of another alone":       {token: "system:serviceaccount:a:b", err: `is for user "system:serviceaccount:a:b", which is not a node: set --node`},
	} {
		t.Run(name, func(t *testing.T) {
			credentials := "token: secret"
			if user = test.token; test.certificate != "" {
				writeClientPEM(t, file, test.certificate, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
				credentials = "client-certificate: " + file + ", client-key: " + file
			}
			n, err := Connect(t.Context(), kubeconfig(t, "insecure-skip-tls-verify: true, server: "+server.URL, credentials), test.wanted, Settings{}, nil)
			if test.err != "" {
				oneLineWith(t, err, test.err)
			} else if err != nil || n.Name() != test.name || n.own != strings.HasPrefix(test.certificate+test.token, "system:node:") {
				t.Errorf("%v, %v, want %s", n, err, test.name)
			}
		})
	}
}
