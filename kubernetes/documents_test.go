package main_test

import (
	"os"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd/api"

	"github.com/locksmithd/locksmith/kubernetes/kubetest"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/realpart"
)

// page returns docs/kubernetes.md.
func page(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile("../docs/kubernetes.md")
	must.Do(t, err)
	return string(page)
}

func TestDocumentNamesTheVersionThatIsTried(t *testing.T) {
	programs, err := kubetest.FindPrograms()
	realpart.Must(t, err)
	if version := "Kubernetes " + strings.TrimPrefix(programs.Version, "v") + "."; !strings.Contains(page(t), version) {
		t.Errorf("docs/kubernetes.md does not name %s", version)
	}
}

// documentedRole returns the ClusterRole in docs/kubernetes.md.
func documentedRole(t *testing.T) string {
	t.Helper()
	_, rest, _ := strings.Cut(page(t), "```yaml\n")
	role, _, found := strings.Cut(rest, "```\n")
	if !found || !strings.Contains(role, "kind: ClusterRole\n") {
		t.Fatalf("the first YAML of docs/kubernetes.md is not a ClusterRole:\n%s", role)
	}
	return role
}

// An account with the role in docs/kubernetes.md may do everything, also what a kubelet may not.
func TestAccountWithTheDocumentedRole(t *testing.T) {
	c := newCluster(t)
	accounts := c.Admin.Core.ServiceAccounts(namespace)
	_, err := accounts.Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "reboots"}}, metav1.CreateOptions{})
	must.Do(t, err)
	token, err := accounts.CreateToken(t.Context(), "reboots", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	must.Do(t, err)
	kubeconfig := c.kubeconfig(t, func(_ *api.Cluster, user *api.AuthInfo) { *user = api.AuthInfo{Token: token.Status.Token} })
	start(t, kubeconfig, "drain").
		fail(t, `is for user "system:serviceaccount:default:reboots", which is not a node: set --node`)
	for _, args := range [][]string{{"drain"}, {"uncordon", "--cancelled"}, {"uncordon"}, {"may-reboot"}} {
		start(t, kubeconfig, append(args, "--node=node-1")...).fail(t, "of an account without this right")
	}

	c.createRBAC(t, "clusterroles", documentedRole(t))
	c.createRBAC(t, "clusterrolebindings", `
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: locksmith-kubernetes}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: locksmith-kubernetes}
subjects: [{kind: ServiceAccount, name: reboots, namespace: default}]
`)
	c.awaitRights(t, kubeconfig)
	c.MustCreate(t, kubetest.Budget(namespace, "db", "100%"))
	c.onNodeOne(t, 1, kubetest.StatefulSet(namespace, "db", 1))
	may := func(args ...string) *program {
		return start(t, kubeconfig, append([]string{"may-reboot", "--node=node-1"}, args...)...)
	}
	may("--min-ready=1").succeed(t)
	may("--min-ready=2").fail(t, "only 1 node beside node-1 Ready and not cordoned, --min-ready is 2")
	c.cordon(t, "node-2")
	may("--min-ready=1").fail(t, "only 0 nodes beside node-1 Ready and not cordoned, --min-ready is 1")
	c.uncordon(t, "node-2")
	must.Do(t, c.two.SetReady(t.Context(), false))
	may("--min-ready=1").fail(t, "only 0 nodes beside node-1")
	must.Do(t, c.two.SetReady(t.Context(), true))
	may("--min-ready=1", "--blocking-pod-selector=app=db").fail(t, "1 pod with app=db on node node-1: default/db-0")

	c.MustAwaitBudget(t, namespace, "db", "the budget to allow none", func(b *policyv1.PodDisruptionBudget) bool {
		return b.Status.CurrentHealthy == 1 && b.Status.DisruptionsAllowed == 0
	})
	environ := []string{
		"LOCKSMITH_KUBERNETES_NODE=node-1", "LOCKSMITH_KUBERNETES_FORCE_AFTER=1s",
		"LOCKSMITH_KUBERNETES_PRE_REBOOT_NODE_LABELS=kubernetes.io/reboot=soon",
		"LOCKSMITH_KUBERNETES_POST_REBOOT_NODE_LABELS=kubernetes.io/reboot=done",
	}
	drain := startWith(t, environ, kubeconfig, "drain")
	drain.awaitStatus(t, "budget db allows none")
	drain.succeed(t)
	c.cordoned(t)
	c.MustAwaitPods(t, namespace, "the pod on node-2", allOn("node-2", 1))
	startWith(t, environ, kubeconfig, "uncordon").succeed(t)
	c.has(t, "afterwards", map[string]string{"label kubernetes.io/reboot": "done"})
	if c.node(t).Spec.Unschedulable {
		t.Error("node-1 is cordoned")
	}
}

// createRBAC creates an object of the group of roles from YAML.
func (c *cluster) createRBAC(t *testing.T, resource, yaml string) {
	t.Helper()
	request := c.Admin.Core.RESTClient().Post().AbsPath("/apis/rbac.authorization.k8s.io/v1", resource)
	must.Do(t, request.SetHeader("Content-Type", "application/yaml").Body([]byte(yaml)).Do(t.Context()).Error())
}

// awaitRights waits until the API server knows the role of an account.
func (c *cluster) awaitRights(t *testing.T, kubeconfig string) {
	t.Helper()
	must.Eventually(t, patience, "the rights of the account", func() bool {
		p := start(t, kubeconfig, "may-reboot", "--node=node-1", "--min-ready=1")
		status, _ := p.end(t)
		return status == 0
	})
}
