package node

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/locksmithd/locksmith/test/must"
)

// A proxy, a portal or a broken server answers with success, but not to what was asked.
func TestAnswerToSomethingElseIsAnError(t *testing.T) {
	list := metav1.TypeMeta{APIVersion: "v1", Kind: "PodList"}
	for name, test := range map[string]struct {
		answer func(w http.ResponseWriter)
		says   string
	}{
		"no kind": {func(w http.ResponseWriter) { send(w, 200, struct{}{}) }, "Object 'Kind' is missing"},
		"null":    {func(w http.ResponseWriter) { send(w, 200, nil) }, "Object 'Kind' is missing"},
		"success": {func(w http.ResponseWriter) {
			send(w, 200, metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusSuccess})
		}, "the answer is a Status, not a "},
		"another kind": {func(w http.ResponseWriter) { send(w, 200, metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}) }, "the answer is a Pod, not a "},
		"unknown kind": {func(w http.ResponseWriter) { send(w, 200, metav1.TypeMeta{APIVersion: "example.com/v1", Kind: "Node"}) }, "example.com/v1"},
		"no name":      {func(w http.ResponseWriter) { send(w, 200, metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}) }, `the answer is about node ""`},
		"HTML": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = io.WriteString(w, "<html>Log in</html>")
		}, "text/html"},
		"first page": {func(w http.ResponseWriter) {
			send(w, 200, corev1.PodList{TypeMeta: list, ListMeta: metav1.ListMeta{Continue: "x"}})
		}, "the answer is a PodList, not a Node"},
	} {
		run(t, name, func(t *testing.T) {
			s := newServer(pod("a"))
			s.answer = func(w http.ResponseWriter, _ *http.Request) bool { test.answer(w); return true }
			n := s.connect(t, Settings{})
			_, err := n.MayReboot(t.Context())
			oneLineWith(t, err, test.says)
			oneLineWith(t, n.Drain(t.Context()), "list the pods of node web-1: ")
			oneLineWith(t, n.Uncordon(t.Context(), true), "read node web-1: ")
		})
	}
}

func TestAnswerAboutAnotherNodeIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		s.node.Name = "web-2"
		_, err := s.connect(t, Settings{}).MayReboot(t.Context())
		oneLineWith(t, err, `read node web-1: http://server: the answer is about node "web-2"`)
	})
}

// A server that does not know the field selector answers with the pods of all nodes.
func TestPodOfAnotherNodeIsNotEvicted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		theirs := pod("b")
		theirs.Spec.NodeName = "web-2"
		s := newServer(pod("a"), theirs)
		if err := s.connect(t, Settings{}).Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(s.evicted, ","); got != "db/a" {
			t.Errorf("evicted are %s, want db/a alone", got)
		}
	})
}

// hanging is a transport that heeds no context, like one whose program for credentials does not end.
type hanging chan struct{}

func (h hanging) RoundTrip(*http.Request) (*http.Response, error) {
	<-h
	return nil, io.EOF
}

func TestProgramForCredentialsThatHangsIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := make(hanging)
		defer close(h)
		c, err := newClient(&rest.Config{Host: "http://server", Transport: h}, "kubeconfig")
		must.Do(t, err)
		c.name = "web-1"
		n := &Node{client: *c, Settings: Settings{Timeout: time.Second}}
		oneLineWith(t, n.Drain(t.Context()), "not done within 1s")
		_, err = n.MayReboot(t.Context())
		oneLineWith(t, err, "no answer within 12s")
	})
}
