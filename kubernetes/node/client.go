package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/url"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"github.com/locksmithd/locksmith/internal/backoff"
	"github.com/locksmithd/locksmith/internal/safetext"
)

const (
	// callTimeout is the time limit of a request. Two of them fit into the 30 seconds that a script in may-reboot.d has.
	callTimeout = 12 * time.Second
	// maxConflicts is how many times a change is tried again because somebody else has changed the node meanwhile. The
	// kubelet changes it every few seconds at most.
	maxConflicts = 10
	// fieldManager is the name under which the API server records our changes.
	fieldManager = "locksmith-kubernetes"
)

// client makes the requests about one node. It is safe for concurrent use.
type client struct {
	connection *connection
	server     string // URL of the API server
	source     string // "kubeconfig PATH", for messages
	name       string // of the node
	own        bool   // the credentials are the node's
}

// errNotRegistered says that there is no node with the name in its own credentials: it was deleted, or never made.
var errNotRegistered = errors.New("its kubelet registers it when it starts")

// silenceLog makes client-go log nothing: errors are returned, and the first line of output is the reason of may-reboot.
// It does so once, because goroutines of an earlier client may be logging.
var silenceLog = sync.OnceFunc(func() { klog.SetLogger(logr.Discard()) })

// newClient makes a client. It does not use the typed clients of client-go: they link every API group, and repeat a
// request by themselves that was answered with Retry-After.
func newClient(config *rest.Config, source string) (*client, error) {
	silenceLog()
	scheme := runtime.NewScheme()
	utilruntime.Must(corev1.AddToScheme(scheme))
	utilruntime.Must(policyv1.AddToScheme(scheme))
	utilruntime.Must(authenticationv1.AddToScheme(scheme))
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	config.WarningHandler = rest.NoWarnings{}
	config.QPS = -1 // no limit: evictions have their own, maxParallel and retryInterval
	connection, err := newConnection(config)
	if err != nil {
		return nil, fmt.Errorf("%s: %s", source, oneLine(err.Error()))
	}
	return &client{connection: connection, server: config.Host, source: source}, nil
}

func (c *client) getNode(ctx context.Context) (*corev1.Node, error) {
	node, what := &corev1.Node{}, "read node "+c.name
	err := c.do(ctx, what, c.core("GET").Resource("nodes").Name(c.name), node)
	switch {
	case c.own && apierrors.IsNotFound(err) && !apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse):
		return nil, fmt.Errorf("node %s does not exist at %s: %w", c.name, c.server, errNotRegistered)
	case apierrors.IsNotFound(err): // or something between here and the API server says so
		return nil, fmt.Errorf("node %s does not exist at %s: check --node and --kubeconfig", c.name, c.server)
	case err == nil && node.Name != c.name:
		return nil, &callError{what: what, client: c, err: fmt.Errorf("the answer is about node %q", node.Name)}
	}
	return node, err
}

func (c *client) listNodes(ctx context.Context) ([]corev1.Node, error) {
	list := &corev1.NodeList{}
	err := c.do(ctx, "list all nodes", c.core("GET").Resource("nodes"), list)
	return list.Items, err
}

// listPods returns the pods of this node. A kubelet may not list the pods of others. A server that ignores the selector
// lists them all.
func (c *client) listPods(ctx context.Context) ([]corev1.Pod, error) {
	list := &corev1.PodList{}
	ours := fields.OneTermEqualSelector("spec.nodeName", c.name).String()
	request, what := c.core("GET").Resource("pods").Param("fieldSelector", ours), "list the pods of node "+c.name
	err := c.do(ctx, what, request, list)
	if err == nil && list.Continue != "" { // a page was not asked for
		err = &callError{what: what, client: c, err: errors.New("the answer is only a part of the list")}
	}
	return slices.DeleteFunc(list.Items, func(pod corev1.Pod) bool { return pod.Spec.NodeName != c.name }), err
}

// evict requests the eviction of a pod, which respects its disruption budgets. If another pod has its name by now, that
// pod is left alone, and the answer is a conflict.
func (c *client) evict(ctx context.Context, pod *corev1.Pod, gracePeriod int) error {
	eviction := &policyv1.Eviction{
		ObjectMeta:    metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name},
		DeleteOptions: deleteOptions(pod, gracePeriod),
	}
	request := c.pod("POST", pod).SubResource("eviction").Body(eviction)
	return c.do(ctx, "evict pod "+podName(pod), request, nil)
}

// deletePod deletes a pod regardless of its disruption budgets. It is otherwise like evict.
func (c *client) deletePod(ctx context.Context, pod *corev1.Pod, gracePeriod int) error {
	request := c.pod("DELETE", pod).Body(deleteOptions(pod, gracePeriod))
	return c.do(ctx, "delete pod "+podName(pod), request, nil)
}

func deleteOptions(pod *corev1.Pod, gracePeriod int) *metav1.DeleteOptions {
	options := &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &pod.UID}}
	if gracePeriod >= 0 {
		seconds := int64(gracePeriod)
		options.GracePeriodSeconds = &seconds
	}
	return options
}

// change applies edit to the node's annotations, labels and spec.unschedulable, and returns the changed node. If
// somebody else changes or deletes the node meanwhile, it is read again, and edit is called with the newer node, so that
// no change is lost.
func (c *client) change(ctx context.Context, edit func(*corev1.Node)) (*corev1.Node, error) {
	for n := 0; ; n++ {
		old, err := c.getNode(ctx)
		if err != nil {
			return nil, err
		}
		edited := old.DeepCopy()
		if edited.Annotations == nil {
			edited.Annotations = map[string]string{}
		}
		if edited.Labels == nil {
			edited.Labels = map[string]string{}
		}
		edit(edited)
		patch := difference(old, edited)
		if patch == nil {
			return old, nil
		}
		body, err := json.Marshal(patch)
		if err != nil {
			return nil, err
		}
		node := &corev1.Node{}
		request := c.core("PATCH").Resource("nodes").Name(c.name).Param("fieldManager", fieldManager).
			SetHeader("Content-Type", string(types.MergePatchType)).Body(body)
		switch err = c.do(ctx, "change node "+c.name, request, node); {
		case err == nil:
			return node, nil
		case !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) || n == maxConflicts:
			return nil, err
		}
		backoff.Sleep(ctx, time.Duration(rand.Int64N(int64(100*time.Millisecond))))
	}
}

// nodePatch is a JSON merge patch, in which nil removes.
type nodePatch struct {
	Metadata struct {
		ResourceVersion string             `json:"resourceVersion"`
		Annotations     map[string]*string `json:"annotations,omitempty"`
		Labels          map[string]*string `json:"labels,omitempty"`
	} `json:"metadata"`
	Spec struct {
		Unschedulable *bool `json:"unschedulable,omitempty"`
	} `json:"spec"`
}

// difference returns the patch from the old to the edited node, for the fields that change edits; nil if there is none.
func difference(old, edited *corev1.Node) *nodePatch {
	patch := &nodePatch{}
	patch.Metadata.ResourceVersion = old.ResourceVersion
	patch.Metadata.Annotations = mapDifference(old.Annotations, edited.Annotations)
	patch.Metadata.Labels = mapDifference(old.Labels, edited.Labels)
	if old.Spec.Unschedulable != edited.Spec.Unschedulable {
		patch.Spec.Unschedulable = &edited.Spec.Unschedulable
	}
	if len(patch.Metadata.Annotations)+len(patch.Metadata.Labels) == 0 && patch.Spec.Unschedulable == nil {
		return nil
	}
	return patch
}

func mapDifference(old, edited map[string]string) map[string]*string {
	changes := map[string]*string{}
	for key, value := range edited {
		if was, found := old[key]; !found || was != value {
			changes[key] = &value
		}
	}
	for key := range old {
		if _, found := edited[key]; !found {
			changes[key] = nil
		}
	}
	return changes
}

// core begins a request to the core API.
func (c *client) core(verb string) *rest.Request {
	return c.connection.api().Verb(verb).AbsPath("/api/v1")
}

func (c *client) pod(verb string, pod *corev1.Pod) *rest.Request {
	return c.core(verb).Namespace(pod.Namespace).Resource("pods").Name(pod.Name)
}

var errNoAnswer = fmt.Errorf("no answer within %v", callTimeout)

// do makes a request, and decodes the answer if into is not nil. The error is a *callError.
func (c *client) do(ctx context.Context, what string, request *rest.Request, into runtime.Object) error {
	ctx, cancel := context.WithTimeoutCause(ctx, callTimeout, errNoAnswer)
	defer cancel()
	answered := make(chan rest.Result, 1)
	go func() { answered <- request.MaxRetries(0).Do(ctx) }() // which waits without a limit for the program of an exec plugin
	var err error
	select {
	case result := <-answered:
		if err = result.Error(); err == nil && into != nil {
			err = read(result, into)
		}
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return &callError{what: what, client: c, err: err}
}

// read reads an answer into a value of its kind. Result.Into takes one that has no kind, and leaves the value empty, without
// an error, when the answer is of another kind: a node without annotations, or one without pods.
func read(result rest.Result, into runtime.Object) error {
	answer, err := result.Get()
	if err != nil {
		return err
	}
	from, to := reflect.ValueOf(answer).Elem(), reflect.ValueOf(into).Elem()
	if from.Type() != to.Type() {
		return fmt.Errorf("the answer is a %s, not a %s", from.Type().Name(), to.Type().Name())
	}
	to.Set(from)
	return nil
}

// callError is a request that failed, or got no answer.
type callError struct {
	what   string // verb and noun
	client *client
	err    error
}

func (e *callError) Unwrap() error { return e.err }

func (e *callError) Error() string {
	text := fmt.Sprintf("%s: %s", e.what, e.reason())
	var status apierrors.APIStatus
	switch {
	case apierrors.IsUnauthorized(e.err):
		text += fmt.Sprintf("; %s does not accept the credentials of %s", e.client.server, e.client.source)
	case apierrors.IsForbidden(e.err):
		text += "; " + e.client.source + " is of an account without this right"
	case !errors.As(e.err, &status):
		text = fmt.Sprintf("%s: %s: %s", e.what, e.client.server, e.reason())
		if likely := likelyCause(e.err); likely != "" {
			text += " (" + likely + ")"
		}
	}
	return text
}

// reason returns the error without the name of the request.
func (e *callError) reason() string {
	var request *url.Error
	if errors.As(e.err, &request) {
		return oneLine(request.Err.Error())
	}
	return oneLine(e.err.Error())
}

// reason returns why a request failed, without the name of the request.
func reason(err error) string {
	var call *callError
	if errors.As(err, &call) {
		return call.reason()
	}
	return oneLine(err.Error())
}

// cause returns the error of a file or program without its path, which the caller names.
func cause(err error) error {
	var path *fs.PathError
	var program *exec.Error
	switch {
	case errors.As(err, &path):
		return path.Err
	case errors.As(err, &program):
		return program.Err
	}
	return err
}

// oneLine makes a text of the API server or of a file safe to show, in one line.
func oneLine(s string) string {
	return safetext.Cut(strings.Join(strings.Fields(s), " "), 512)
}

func timestamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
