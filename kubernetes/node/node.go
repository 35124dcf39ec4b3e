package node

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/labels"
)

// Settings say how the node is drained, taken back, and when it may go. MayReboot, Drain and Uncordon say which of them
// they use.
type Settings struct {
	// Which pods are evicted, as with kubectl drain.
	PodSelector        labels.Selector // nil: all
	SkipNamespaces     []string
	Force              bool // also pods without a controller, which nobody starts again elsewhere
	DeleteEmptyDirData bool // also pods whose data in emptyDir volumes is lost
	// How they are evicted.
	Timeout     time.Duration // of a drain
	GracePeriod int           // seconds that a pod has to end, negative: what the pod says
	ForceAfter  time.Duration // after which pods are deleted whatever their budgets say, 0: never

	// What has to hold before the node counts as back after a reboot.
	BootID         string        // of this boot, as in /proc/sys/kernel/random/boot_id; "": the kubelet's is not compared
	ReadyTimeout   time.Duration // for the node to be Ready
	WaitDaemonSets time.Duration // for its DaemonSet pods then, 0: they do not count

	// What keeps the node from a reboot.
	BlockingPods []labels.Selector
	MinReady     int // this many other nodes have to be Ready and not cordoned; 0: it does not matter

	// Conventions.
	FLUO                     bool // annotations and labels of the Flatcar Linux Update Operator
	BeforeRebootAnnotations  []string
	AfterRebootAnnotations   []string
	NewVersion               string            // of the operating system after the reboot, "" if unknown
	Kured                    bool              // annotations of kured
	PreRebootLabels          map[string]string // set before the cordon, by hook pods or dashboards that look for them
	PostRebootLabels         map[string]string // set when the node is back
	ExcludeFromLoadBalancers bool
	LoadBalancerWait         time.Duration // how long load balancers have to notice
}

// Node is the node of this host.
type Node struct {
	client
	Settings
	status func(string)
}

const (
	pollInterval  = time.Second     // at which the node and its pods are looked at while something is to change
	retryInterval = 5 * time.Second // after which an eviction is asked for again, as with kubectl
)

// Connect finds the node of this host: kubeconfig is a path, "" for the first of Kubeconfigs that exists; name is the
// node's, "" for that in the credentials. Status is told what Drain and Uncordon wait for, from their goroutine.
func Connect(ctx context.Context, kubeconfig, name string, settings Settings, status func(string)) (*Node, error) {
	if kubeconfig == "" {
		var err error
		if kubeconfig, err = findKubeconfig(Kubeconfigs()); err != nil {
			return nil, err
		}
	}
	config, err := loadKubeconfig(kubeconfig)
	if err != nil {
		return nil, err
	}
	c, err := newClient(config, "kubeconfig "+kubeconfig)
	if err != nil {
		return nil, err
	}
	if c.name, err = c.findName(ctx, config, name); err != nil {
		return nil, err
	}
	return &Node{client: *c, Settings: settings, status: status}, nil
}

// Name returns the name of the node.
func (n *Node) Name() string { return n.name }
