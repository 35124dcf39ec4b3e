package node

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/labels"
)

// Settings say when the node may reboot, and how it is drained and taken back. MayReboot, Drain and Uncordon say which
// of them they use.
type Settings struct {
	// Which pods are evicted, as with kubectl drain.
	PodSelector        labels.Selector // nil: all
	SkipNamespaces     []string
	Force              bool // also pods without a controller, which nothing starts again elsewhere
	DeleteEmptyDirData bool // also pods whose data in emptyDir volumes is lost
	// How they are evicted.
	Timeout     time.Duration // of a drain
	GracePeriod int           // seconds that a pod has to end; negative: as the pod says
	ForceAfter  time.Duration // this long after the cordon pods are deleted regardless of their budgets; 0: never

	// What has to hold before the node counts as back after a reboot.
	BootID         string        // of this boot, as in /proc/sys/kernel/random/boot_id; "": not compared with the kubelet's
	ReadyTimeout   time.Duration // until the node is Ready
	WaitDaemonSets time.Duration // then, until its DaemonSet pods are ready; 0: they do not matter

	// What keeps the node from a reboot.
	BlockingPods []labels.Selector
	MinReady     int // this many other nodes have to be Ready and not cordoned; 0: they do not matter

	// Conventions.
	FLUO                     bool // annotations and labels of the Flatcar Linux Update Operator
	BeforeRebootAnnotations  []string
	AfterRebootAnnotations   []string
	NewVersion               string            // of the operating system after the reboot; "" if unknown
	Kured                    bool              // annotations of kured
	PreRebootLabels          map[string]string // set before the cordon, for hook pods and dashboards
	PostRebootLabels         map[string]string // set when the node is back
	ExcludeFromLoadBalancers bool
	LoadBalancerWait         time.Duration // between that label and the cordon
}

// Node is the node of this host.
type Node struct {
	client
	Settings
	status func(string)
}

const (
	pollInterval  = time.Second     // between two readings of the node or its pods, while waiting for a change
	retryInterval = 5 * time.Second // between two requests to evict the same pod, as with kubectl
)

// Connect finds the node of this host. Kubeconfig is a path; "" means that of the kubelet. Name is the name of the node; ""
// means the one in the credentials. Drain and Uncordon call status with what they wait for, in the goroutine of their
// caller.
func Connect(ctx context.Context, kubeconfig, name string, settings Settings, status func(string)) (*Node, error) {
	if kubeconfig == "" {
		var err error
		if kubeconfig, err = findKubeconfig(kubeletKubeconfigs()); err != nil {
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
	if err := c.findName(ctx, config, name); err != nil {
		return nil, err
	}
	return &Node{client: *c, Settings: settings, status: status}, nil
}

// Name returns the name of the node.
func (n *Node) Name() string { return n.name }
