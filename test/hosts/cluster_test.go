package hosts

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/proc"
	"github.com/locksmithd/locksmith/test/realpart"
)

// Programs of the module kubernetes.
const (
	clusterProgram = "../../bin/kubetest-cluster"
	kubeletProgram = "../../bin/kubetest-kubelet"
	nodeProgram    = "../../bin/locksmith-kubernetes"
)

// cluster is a client of a Kubernetes control plane that runs outside of all hosts, with the rights of an administrator.
// It sends JSON, because this module has no client of Kubernetes.
type cluster struct {
	t      testing.TB
	url    string
	client *http.Client
}

// startCluster runs a control plane on its own port. The hosts, which have to be off, become its nodes, with
// locksmith-kubernetes as its package installs it.
func startCluster(t testing.TB, port int, hosts ...*host) *cluster {
	t.Helper()
	for _, path := range []string{clusterProgram, kubeletProgram, nodeProgram, "../../bin/kube-apiserver", "../../bin/kube-controller-manager"} {
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			realpart.Must(t, &realpart.Missing{Part: path, Remedy: "make " + strings.TrimPrefix(path, "../../")})
		} else {
			must.Do(t, err)
		}
	}
	dir := filepath.Join(scratch, fmt.Sprintf("cluster-%d", port))
	must.Do(t, os.Mkdir(dir, 0o755))
	args := []string{"-dir", dir, "-address", fmt.Sprintf("%s.0.1:%d", network, port)}
	for _, h := range hosts {
		args = append(args, h.name+"="+h.root)
	}
	cmd := exec.Command(clusterProgram, args...)
	var log bytes.Buffer
	cmd.Stderr = &log
	stdout, err := cmd.StdoutPipe()
	must.Do(t, err)
	p, err := proc.Start(cmd)
	must.Do(t, err)
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("the log of the cluster:\n%s", tail(log.Bytes()))
		}
		must.Do(t, os.RemoveAll(dir))
	})
	var access struct{ URL, CA, Certificate, Key string }
	if err := json.NewDecoder(stdout).Decode(&access); err != nil {
		p.Kill()
		t.Fatalf("the cluster did not start: %v\n%s", err, log.Bytes())
	}
	pair, err := tls.LoadX509KeyPair(access.Certificate, access.Key)
	must.Do(t, err)
	authority, err := os.ReadFile(access.CA)
	must.Do(t, err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}}, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	for _, h := range hosts {
		h.joinNodes()
	}
	return &cluster{t: t, url: access.URL, client: &http.Client{Transport: transport}}
}

// joinNodes installs on a host, which has to be off, what a node needs.
func (h *host) joinNodes() {
	h.t.Helper()
	must.Do(h.t, sh(`
		root=`+h.root+`
		install -m 0755 `+kubeletProgram+` $root/usr/local/bin/kubelet
		make --no-print-directory -C ../.. --old-file=kubernetes --old-file=bin/share \
			install-locksmith-kubernetes DESTDIR=$root PREFIX=/usr
		cp -r testdata/locksmith-kubernetes-.service.d $root/etc/systemd/system
		chroot $root systemctl --quiet enable kubelet.service`))
}

// do sends a request, with a body if it is not "", and reads the answer into result if that is not nil.
func (c *cluster) do(ctx context.Context, method, path, body string, result any) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	response, err := c.send(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil || result == nil {
		return err
	}
	return json.Unmarshal(data, result)
}

// send sends a request and returns the answer. An answer other than 2xx is an error.
func (c *cluster) send(ctx context.Context, method, path, body string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, c.url+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	if method == http.MethodPatch {
		request.Header.Set("Content-Type", "application/merge-patch+json")
	}
	response, err := c.client.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode/100 != 2 {
		defer response.Body.Close()
		text, _ := io.ReadAll(response.Body)
		return nil, fmt.Errorf("%s %s: %s: %s", method, path, response.Status, text)
	}
	return response, nil
}

// Paths of the API, of the namespace that the tests use.
const (
	nodesPath       = "/api/v1/nodes"
	podsPath        = "/api/v1/namespaces/default/pods"
	deploymentsPath = "/apis/apps/v1/namespaces/default/deployments"
	daemonSetsPath  = "/apis/apps/v1/namespaces/default/daemonsets"
	budgetsPath     = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"
)

// deploy makes a Deployment, and a budget that needs minAvailable healthy pods.
func (c *cluster) deploy(app string, replicas, minAvailable int) {
	c.t.Helper()
	must.Do(c.t, c.do(c.t.Context(), http.MethodPost, deploymentsPath, fmt.Sprintf(`{"metadata":{"name":%q},"spec":{"replicas":%d,%s}}`, app, replicas, podsOf(app)), nil))
	must.Do(c.t, c.do(c.t.Context(), http.MethodPost, budgetsPath, fmt.Sprintf(`{"metadata":{"name":%q},"spec":{"minAvailable":%d,"selector":{"matchLabels":{"app":%[1]q}}}}`, app, minAvailable), nil))
}

// runEverywhere makes a DaemonSet.
func (c *cluster) runEverywhere(app string) {
	c.t.Helper()
	must.Do(c.t, c.do(c.t.Context(), http.MethodPost, daemonSetsPath, fmt.Sprintf(`{"metadata":{"name":%q},"spec":{%s}}`, app, podsOf(app)), nil))
}

// podsOf returns the part of a controller's spec that describes its pods.
func podsOf(app string) string {
	return fmt.Sprintf(`"selector":{"matchLabels":{"app":%q}},"template":{"metadata":{"labels":{"app":%[1]q}},
		"spec":{"containers":[{"name":"main","image":"example.invalid/none"}]}}`, app)
}

// object is a pod or a node, with the fields that the tests read.
type object struct {
	Metadata struct {
		Name, UID, ResourceVersion, DeletionTimestamp string
		Labels, Annotations                           map[string]string
	}
	Spec struct {
		NodeName      string
		Unschedulable bool
	}
	Status struct {
		NodeInfo   struct{ BootID string }
		Conditions []struct{ Type, Status string }
	}
}

// app returns the app that a pod belongs to.
func (o *object) app() string { return o.Metadata.Labels["app"] }

// ready reports whether a node or a pod is Ready.
func (o *object) ready() bool {
	for _, c := range o.Status.Conditions {
		if c.Type == "Ready" {
			return c.Status == "True"
		}
	}
	return false
}

// healthy reports whether a pod counts for a budget: the disruption controller does not count one that is being deleted.
func (o *object) healthy() bool { return o.ready() && o.Metadata.DeletionTimestamp == "" }

// String describes a pod or a node for messages.
func (o *object) String() string {
	text := o.Metadata.Name
	if o.Spec.NodeName != "" {
		text += " on " + o.Spec.NodeName
	}
	if !o.ready() {
		text += ", not ready"
	}
	if o.Metadata.DeletionTimestamp != "" {
		text += ", being deleted"
	}
	if o.Spec.Unschedulable {
		text += ", cordoned"
	}
	return text
}

// objects is a list of pods or nodes.
type objects struct {
	Metadata struct{ ResourceVersion string }
	Items    []*object
}

// podsOn returns the pods of a node.
func (c *cluster) podsOn(ctx context.Context, node string) ([]*object, error) {
	var list objects
	err := c.do(ctx, http.MethodGet, podsPath+"?fieldSelector=spec.nodeName%3D"+url.QueryEscape(node), "", &list)
	return list.Items, err
}

// node returns the node of a host.
func (c *cluster) node(h *host) *object {
	c.t.Helper()
	var node object
	must.Do(c.t, c.do(c.t.Context(), http.MethodGet, nodesPath+"/"+h.name, "", &node))
	return &node
}

// wantInService fails unless the node of a host is Ready, and takes pods.
func (c *cluster) wantInService(h *host) {
	c.t.Helper()
	if node := c.node(h); !node.ready() || node.Spec.Unschedulable || node.Metadata.Annotations[cordonedBy] != "" {
		c.t.Errorf("there is the node %v, with the annotations %v", node, node.Metadata.Annotations)
	}
}

// onlyPod returns the name of the only pod of an app.
func (c *cluster) onlyPod(app string) string {
	c.t.Helper()
	var list objects
	must.Do(c.t, c.do(c.t.Context(), http.MethodGet, podsPath+"?labelSelector=app%3D"+app, "", &list))
	if len(list.Items) != 1 {
		c.t.Fatalf("there are the pods %v of %s, want one", list.Items, app)
	}
	return list.Items[0].Metadata.Name
}

// awaitHealthy waits until an app has n healthy pods, and no others.
func (c *cluster) awaitHealthy(app string, n int) {
	c.t.Helper()
	var pods []*object
	defer func() {
		if c.t.Failed() {
			c.t.Logf("the pods of %s: %v", app, pods)
		}
	}()
	must.Eventually(c.t, patience, fmt.Sprintf("%d healthy pods of %s", n, app), func() bool {
		var list objects
		must.Do(c.t, c.do(c.t.Context(), http.MethodGet, podsPath+"?labelSelector=app%3D"+app, "", &list))
		pods = list.Items
		return len(pods) == n && !slices.ContainsFunc(pods, func(o *object) bool { return !o.healthy() })
	})
}

// watch calls see with all objects of a path, by name: first as they are now, then after each single change, in order,
// until the test ends or stop is called. Stop returns an error if changes may be missing.
func (c *cluster) watch(path string, see func(map[string]*object)) (stop func() error) {
	c.t.Helper()
	var list objects
	must.Do(c.t, c.do(c.t.Context(), http.MethodGet, path, "", &list))
	all := map[string]*object{}
	for _, o := range list.Items {
		all[o.Metadata.Name] = o
	}
	see(all)
	ctx, cancel := context.WithCancel(c.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.follow(ctx, path, list.Metadata.ResourceVersion, all, see) }()
	return func() error {
		cancel()
		return <-ended
	}
}

// follow is the goroutine of watch. When the API server ends a watch, it starts the next one there.
func (c *cluster) follow(ctx context.Context, path, version string, all map[string]*object, see func(map[string]*object)) error {
	for ctx.Err() == nil {
		response, err := c.send(ctx, http.MethodGet, path+"?watch=true&resourceVersion="+version, "")
		if err != nil {
			return ignoreEnd(ctx, err)
		}
		for events := json.NewDecoder(response.Body); ; {
			var event struct {
				Type   string
				Object object
			}
			if err := events.Decode(&event); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				response.Body.Close()
				return ignoreEnd(ctx, err)
			}
			switch event.Type {
			case "ADDED", "MODIFIED":
				all[event.Object.Metadata.Name] = &event.Object
			case "DELETED":
				delete(all, event.Object.Metadata.Name)
			default:
				response.Body.Close()
				return fmt.Errorf("watch %s: an event %s after version %s", path, event.Type, version)
			}
			version = event.Object.Metadata.ResourceVersion
			see(all)
		}
		response.Body.Close()
	}
	return nil
}

// ignoreEnd returns err, or nil if ctx was ended on purpose.
func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}
