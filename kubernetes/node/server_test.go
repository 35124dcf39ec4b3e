package node

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/locksmithd/locksmith/test/must"
)

// server is a stand-in for an API server, for the answers that a real one gives only when it is broken. It has one node,
// web-1, and its pods, all of which end at once when they are evicted.
type server struct {
	// answer may answer a request first, as a real one does not on demand; false leaves it to the server.
	answer func(w http.ResponseWriter, r *http.Request) (answered bool)

	mutex    sync.Mutex
	node     corev1.Node
	pods     []corev1.Pod
	evicted  []string // names, for each request
	statuses []string // of connect's node
}

func newServer(pods ...corev1.Pod) *server {
	return &server{pods: pods, node: corev1.Node{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Node"},
		ObjectMeta: metav1.ObjectMeta{Name: "web-1", ResourceVersion: "1", Labels: map[string]string{}, Annotations: map[string]string{}},
	}}
}

// connect returns the node of this server, without a network, so that tests can run in a bubble of package synctest.
func (s *server) connect(t *testing.T, settings Settings) *Node {
	t.Helper()
	c, err := newClient(&rest.Config{Host: "http://server", Transport: s}, "kubeconfig")
	must.Do(t, err)
	c.name = "web-1"
	settings.GracePeriod = -1
	settings.Timeout = cmp.Or(settings.Timeout, 10*time.Minute)
	return &Node{client: *c, Settings: settings, status: func(text string) { s.statuses = append(s.statuses, text) }}
}

// run runs a subtest in a bubble, with a time of its own.
func run(t *testing.T, name string, test func(t *testing.T)) {
	t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
}

// RoundTrip is http.RoundTripper.
func (s *server) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	cut := false
	func() {
		defer func() { cut = recover() == http.ErrAbortHandler }()
		s.ServeHTTP(w, r)
	}()
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	answer := w.Result()
	if cut {
		answer.Body = io.NopCloser(io.MultiReader(answer.Body, iotest.ErrReader(io.ErrUnexpectedEOF)))
	}
	return answer, nil
}

// seen calls look while the server answers nobody.
func (s *server) seen(look func()) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	look()
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.answer != nil && s.answer(w, r) {
		return
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	path := strings.Split(strings.TrimPrefix(r.URL.Path, "/api/v1/"), "/")
	switch {
	case r.URL.Path == "/api/v1/nodes/web-1" && r.Method == "GET":
		send(w, 200, s.node)
	case r.URL.Path == "/api/v1/nodes/web-1" && r.Method == "PATCH":
		s.patch(w, r)
	case r.URL.Path == "/api/v1/pods" && r.URL.Query().Get("fieldSelector") == "spec.nodeName=web-1":
		send(w, 200, corev1.PodList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PodList"}, Items: s.pods})
	case len(path) >= 4 && path[0] == "namespaces" && path[2] == "pods" && (r.Method == "DELETE" || len(path) == 5 && path[4] == "eviction"):
		s.end(w, r, path[1]+"/"+path[3])
	default:
		refuse(w, 404, metav1.StatusReasonNotFound, "there is no "+r.URL.Path)
	}
}

// patch applies a merge patch to the node.
func (s *server) patch(w http.ResponseWriter, r *http.Request) {
	var patch nodePatch
	if err := json.NewDecoder(r.Body).Decode(&patch); err != nil || r.Header.Get("Content-Type") != string(types.MergePatchType) {
		refuse(w, 400, metav1.StatusReasonBadRequest, fmt.Sprint(err))
		return
	}
	if patch.Metadata.ResourceVersion != s.node.ResourceVersion {
		refuse(w, 409, metav1.StatusReasonConflict, "the object has been modified")
		return
	}
	for changes, values := range map[*map[string]*string]map[string]string{
		&patch.Metadata.Annotations: s.node.Annotations, &patch.Metadata.Labels: s.node.Labels,
	} {
		for key, value := range *changes {
			if delete(values, key); value != nil {
				values[key] = *value
			}
		}
	}
	if patch.Spec.Unschedulable != nil {
		s.node.Spec.Unschedulable = *patch.Spec.Unschedulable
	}
	s.touch()
	send(w, 200, s.node)
}

// touch gives the node a new version.
func (s *server) touch() {
	version, _ := strconv.Atoi(s.node.ResourceVersion)
	s.node.ResourceVersion = strconv.Itoa(version + 1)
}

// end ends a pod.
func (s *server) end(w http.ResponseWriter, r *http.Request, name string) {
	i := slices.IndexFunc(s.pods, func(p corev1.Pod) bool { return podName(&p) == name })
	type options struct{ Preconditions struct{ UID types.UID } }
	var body struct {
		options       // of DELETE
		DeleteOptions options
	}
	err := json.NewDecoder(r.Body).Decode(&body)
	switch s.evicted = append(s.evicted, name); {
	case err != nil:
		refuse(w, 400, metav1.StatusReasonBadRequest, err.Error())
	case i < 0:
		refuse(w, 404, metav1.StatusReasonNotFound, "there is no pod "+name)
	case cmp.Or(body.Preconditions.UID, body.DeleteOptions.Preconditions.UID) != s.pods[i].UID:
		refuse(w, 409, metav1.StatusReasonConflict, "the UID does not match")
	default:
		s.pods = slices.Delete(s.pods, i, i+1)
		send(w, 201, metav1.Status{Status: metav1.StatusSuccess})
	}
}

func send(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body) // a client that has gone reads nothing
}

// refuse answers as an API server does, with causes of a type and a message each.
func refuse(w http.ResponseWriter, code int, reason metav1.StatusReason, message string, causes ...metav1.StatusCause) {
	send(w, code, metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure, Code: int32(code),
		Reason: reason, Message: message, Details: &metav1.StatusDetails{Causes: causes},
	})
}

// cut ends a connection in the middle of an answer.
func cut(w http.ResponseWriter) {
	_, _ = io.WriteString(w, `{"kind":`)
	panic(http.ErrAbortHandler)
}

// pod returns a pod of namespace db that belongs to a ReplicaSet.
func pod(name string) corev1.Pod {
	yes := true
	return corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: "db", Name: name, UID: types.UID("uid-of-" + name),
		OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "db", Controller: &yes}},
	}, Spec: corev1.PodSpec{NodeName: "web-1"}}
}

// blockedBy returns settings with blocking pods.
func blockedBy(t *testing.T, selectors ...string) (settings Settings) {
	for _, text := range selectors {
		selector, err := labels.Parse(text)
		must.Do(t, err)
		settings.BlockingPods = append(settings.BlockingPods, selector)
	}
	return settings
}
