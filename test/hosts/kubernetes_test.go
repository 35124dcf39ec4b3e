package hosts

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/test/contains"
	"github.com/locksmithd/locksmith/test/must"
)

// The units that drain a node, and take it back after a reboot.
const (
	drainService    = "locksmith-kubernetes-drain.service"
	uncordonService = "locksmith-kubernetes-uncordon.service"
)

// The settings file of locksmith-kubernetes, and the annotation that records its cordon.
const (
	nodeConf   = "/etc/locksmith/kubernetes.conf"
	cordonedBy = "locksmith.locksmithd.io/cordoned"
)

// nodeStates records the states that the nodes of a cluster go through.
type nodeStates struct {
	boots   map[string][]string // by node, the boot ids that its kubelet has reported
	history map[string][]string // by node, its states, without repetitions in a row
	wrong   []string
}

func newNodeStates() *nodeStates {
	return &nodeStates{boots: map[string][]string{}, history: map[string][]string{}}
}

// see records the states of all nodes. It is wrong if more than one is out of service.
func (s *nodeStates) see(nodes map[string]*object) {
	var out []string
	for name, node := range nodes {
		if boot := node.Status.NodeInfo.BootID; !slices.Contains(s.boots[name], boot) {
			s.boots[name] = append(s.boots[name], boot)
		}
		state := fmt.Sprintf("boot %d", len(s.boots[name]))
		if !node.ready() {
			state += ", not ready"
		}
		if node.Spec.Unschedulable {
			state += ", cordoned"
		}
		if node.Spec.Unschedulable != (node.Metadata.Annotations[cordonedBy] != "") {
			s.wrong = append(s.wrong, fmt.Sprintf("%v has the annotations %v", node, node.Metadata.Annotations))
		}
		if h := s.history[name]; len(h) == 0 || h[len(h)-1] != state {
			s.history[name] = append(h, state)
		}
		if !node.ready() || node.Spec.Unschedulable {
			out = append(out, name)
		}
	}
	if len(out) > 1 {
		s.wrong = append(s.wrong, fmt.Sprintf("the nodes %v are out of service together", out))
	}
}

// check fails the test if anything was wrong, or if the node of a host did not go through exactly these states. The watch
// has to be stopped before.
func (s *nodeStates) check(t testing.TB, h *host, want ...string) {
	t.Helper()
	for _, wrong := range s.wrong {
		t.Error(wrong)
	}
	s.wrong = nil // report each only once
	if got := s.history[h.name]; !slices.Equal(got, want) {
		t.Errorf("node %s went through\n%q, want\n%q", h.name, got, want)
	}
}

// oneReboot lists the states of a node in one reboot. The kubelet reports the boot before it reports the node as Ready.
var oneReboot = []string{
	"boot 1",
	"boot 1, cordoned",
	"boot 1, not ready, cordoned",
	"boot 2, not ready, cordoned",
	"boot 2, cordoned",
	"boot 2",
}

func TestThreeNodesAreDrainedAndRebootOneAfterAnotherWithinABudget(t *testing.T) {
	t.Parallel()
	inOneSuite(t)
	const pods, needed = 4, 3 // on three nodes: one at least has two, and may lose one at a time
	f := newFleet(t)
	f.add(3)
	c := startCluster(t, 6443, f.hosts...)
	f.start()
	c.runEverywhere("agent")
	c.awaitHealthy("agent", 3)
	c.deploy("web", pods, needed)
	c.awaitHealthy("web", pods)

	lowest, highest, changes := pods, 0, 0
	var tooFew []string
	stopPods := c.watch(podsPath, func(all map[string]*object) {
		var healthy, web []string
		for _, pod := range all {
			if pod.app() != "web" {
				continue
			}
			web = append(web, pod.String())
			if pod.healthy() {
				healthy = append(healthy, pod.Metadata.Name)
			}
		}
		changes++
		lowest, highest = min(lowest, len(healthy)), max(highest, len(web))
		if len(healthy) < needed {
			tooFew = append(tooFew, strings.Join(web, "; "))
		}
	})
	nodes := newNodeStates()
	stopNodes := c.watch(nodesPath, nodes.see)
	// While a host is down, its node has only the pod of the DaemonSet.
	witness := f.oneAtATime(func(h *host) error {
		on, err := c.podsOn(t.Context(), h.name)
		if err == nil && (len(on) != 1 || on[0].app() != "agent") {
			err = fmt.Errorf("the node has the pods %v, want one of agent", on)
		}
		return err
	})
	f.roll()
	for _, h := range f.hosts {
		h.awaitStatus("idle")
	}
	c.awaitHealthy("web", pods)
	c.awaitHealthy("agent", 3)
	must.Do(t, stopPods())
	must.Do(t, stopNodes())
	witness.check(t, 3)

	t.Logf("%d changes of pods; of %d pods of web, %d at least were healthy, and there were %d at most", changes, pods, lowest, highest)
	for _, web := range tooFew {
		t.Errorf("fewer than %d pods of web were healthy: %s", needed, web)
	}
	if lowest != needed {
		t.Errorf("the drains took no pod of web away: %d were healthy at least, of %d", lowest, pods)
	}
	for _, h := range f.hosts {
		nodes.check(t, h, oneReboot...)
	}
}

func TestANodeWhoseBudgetAllowsNoneStaysInServiceUntilItDoes(t *testing.T) {
	t.Parallel()
	inOneSuite(t)
	f := newFleet(t)
	f.add(1)
	h := f.hosts[0]
	c := startCluster(t, 6444, h)
	h.record()
	h.write(nodeConf, "LOCKSMITH_KUBERNETES_TIMEOUT=10s\n")
	f.start()
	c.deploy("web", 1, 1)
	c.awaitHealthy("web", 1)
	first := c.onlyPod("web")
	before := h.awaitUp()

	h.announce("4081.2.0")
	cancelled := h.awaitHook("reboot-cancelled", recorder, 1)
	blocked := []string{"default/" + first, "budget web allows none"}
	if !contains.All(cancelled.Reason, blocked...) {
		t.Errorf("reboot-cancelled was told %q, want %q", cancelled.Reason, blocked)
	}
	f.awaitHolders()
	h.awaitStatus(append([]string{"waiting since", "the last attempt failed: what runs before a reboot has failed"}, blocked...)...)
	h.withdraw()
	c.wantInService(h)
	if now := c.onlyPod("web"); now != first {
		t.Errorf("the pod is now %s, and was %s", now, first)
	}
	h.wantNoReboot(before)
	h.wantNotDrained()

	attempts := countRuns(h.hookRuns(), "reboot-cancelled:"+recorder)
	h.announce("4081.2.0")
	h.awaitHook("reboot-cancelled", recorder, attempts+1)
	must.Do(t, c.do(t.Context(), http.MethodPatch, budgetsPath+"/web", `{"spec":{"minAvailable":0}}`, nil))
	f.wantHeldWhileDown(h)
	h.awaitReboot(before)
	h.awaitStatus("idle")
	f.awaitHolders()
	h.wantNotDrained()
	c.wantInService(h)
	c.awaitHealthy("web", 1) // there is no other node that it could be on
}

// A drain that is killed is undone at once. One that ends with the power of its host is undone after the next boot, once
// the kubelet has reported that boot: until then the API server shows the node as it was before, Ready.
func TestANodeIsTakenBackAfterItsDrainWasKilledAndAfterAPowerLoss(t *testing.T) {
	t.Parallel()
	inOneSuite(t)
	f := newFleet(t)
	f.add(1)
	h := f.hosts[0]
	c := startCluster(t, 6445, h)
	h.record()
	f.start()
	c.deploy("web", 1, 1)
	c.awaitHealthy("web", 1)
	before := h.awaitUp()
	nodes := newNodeStates()
	stop := c.watch(nodesPath, nodes.see)

	h.announce("4081.2.0")
	eventually(t, "a drain that waits for a budget", func() bool {
		return strings.Contains(h.unit(drainService, "StatusText"), "budget web allows none")
	})
	h.do("locksmithctl", "hold", "-reason", "one attempt is enough")
	h.do("systemctl", "kill", "--signal=KILL", drainService)
	if r := h.awaitHook("reboot-cancelled", recorder, 1); !strings.Contains(r.Reason, drainService) {
		t.Errorf("reboot-cancelled was told %q, want %q", r.Reason, drainService)
	}
	h.awaitStatus("held back by the file /etc/locksmith/hold")
	f.awaitHolders()
	c.wantInService(h)
	h.wantNoReboot(before)

	h.script("before-reboot", "50-slow", until("/run/never"))
	must.Do(t, c.do(t.Context(), http.MethodPatch, budgetsPath+"/web", `{"spec":{"minAvailable":0}}`, nil))
	h.do("locksmithctl", "unhold")
	eventually(t, "a drained node", func() bool {
		on, err := c.podsOn(t.Context(), h.name)
		must.Do(t, err)
		return len(on) == 0
	})
	f.awaitHolders(h)
	h.do("systemctl", "disable", "kubelet")
	h.powerOff()
	h.powerOn()
	h.awaitReboot(before)
	eventually(t, "a return that waits for the kubelet", func() bool {
		return strings.Contains(h.unit(uncordonService, "StatusText"), "has not reported since the boot")
	})
	h.do("systemctl", "start", "kubelet")
	h.awaitStatus("idle")
	f.awaitHolders()
	c.wantInService(h)
	h.wantNotDrained()
	c.awaitHealthy("web", 1)
	must.Do(t, stop())
	nodes.check(t, h, "boot 1", "boot 1, cordoned", "boot 1", "boot 1, cordoned", "boot 2, cordoned", "boot 2")
}
