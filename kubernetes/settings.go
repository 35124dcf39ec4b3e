package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/locksmithd/locksmith/kubernetes/node"
)

// settings come from flags and from the environment.
type settings struct {
	node.Settings
	kubeconfig, node string
}

func (s *settings) commonFlags(flags *pflag.FlagSet) {
	flags.StringVar(&s.kubeconfig, "kubeconfig", "",
		"`FILE` with the API server and the credentials (default: that of the kubelet)")
	flags.StringVar(&s.node, "node", "", "`NAME` of this host's node (default: that in the credentials)")
	flags.BoolVar(&s.FLUO, "fluo", false,
		"keep the annotations and labels of the Flatcar Linux Update Operator, and run its hooks")
	flags.BoolVar(&s.Kured, "kured", false, "keep the annotations of kured")
}

func (s *settings) drainFlags(flags *pflag.FlagSet) {
	s.Timeout, s.GracePeriod = 10*time.Minute, -1
	flags.Var(&timeValue{&s.Timeout, time.Second}, "timeout", "fail after `TIME`, all together")
	flags.Var(&timeValue{&s.ForceAfter, 0}, "force-after", "delete pods regardless of their budgets, `TIME` after the cordon; 0: never")
	flags.Func("grace-period", "`SECONDS` that a pod has to end; -1: what the pod says (default -1)", s.setGracePeriod)
	flags.Func("pod-selector", "evict only pods with labels that match `SELECTOR`", s.setPodSelector)
	flags.Var(&listValue{&s.SkipNamespaces, validation.IsDNS1123Label}, "skip-namespaces",
		"leave the pods of these `NAMESPACES`")
	flags.BoolVar(&s.Force, "force", false, "evict pods without a controller as well, which nothing starts elsewhere")
	flags.BoolVar(&s.DeleteEmptyDirData, "delete-emptydir-data", false,
		"evict pods with emptyDir volumes as well, whose data is lost")
	flags.Func("exclude-from-load-balancers",
		"label the node so that load balancers leave it, and wait for `TIME`, or not at all", s.setExclude)
	flags.Lookup("exclude-from-load-balancers").NoOptDefVal = "true"
	flags.Var(&listValue{&s.BeforeRebootAnnotations, validation.IsQualifiedName}, "before-reboot-annotations",
		"`ANNOTATIONS` that hooks set to true before the drain; needs --fluo")
	flags.Var(&labelsValue{&s.PreRebootLabels}, "pre-reboot-node-labels",
		"`LABELS`, such as example.com/reboot=soon, for the node before its drain")
}

func (s *settings) uncordonFlags(flags *pflag.FlagSet) {
	s.ReadyTimeout, s.WaitDaemonSets = 5*time.Minute, 2*time.Minute
	flags.Var(&timeValue{&s.ReadyTimeout, time.Second}, "ready-timeout", "fail if the node is not Ready after `TIME`")
	flags.Var(&timeValue{&s.WaitDaemonSets, 0}, "wait-daemonsets",
		"fail if its DaemonSet pods do not run `TIME` later; 0: do not wait for them")
	flags.Var(&listValue{&s.AfterRebootAnnotations, validation.IsQualifiedName}, "after-reboot-annotations",
		"`ANNOTATIONS` that hooks set to true after the reboot; needs --fluo")
	flags.Var(&labelsValue{&s.PostRebootLabels}, "post-reboot-node-labels", "`LABELS` for the node when it is back")
}

func (s *settings) mayRebootFlags(flags *pflag.FlagSet) {
	flags.Func("blocking-pod-selector", "no reboot while a pod of the node matches `SELECTOR`; "+
		"can be repeated, or list several, separated by ;", s.addBlockingPods)
	flags.Func("min-ready", "no reboot unless `N` other nodes are Ready and not cordoned; needs the right to list nodes",
		s.setMinReady)
}

func (s *settings) setGracePeriod(value string) (err error) {
	if s.GracePeriod, err = strconv.Atoi(value); err != nil || s.GracePeriod < -1 {
		return errors.New("write a whole number of seconds, or -1 for what the pod says")
	}
	return nil
}

func (s *settings) setPodSelector(value string) (err error) {
	s.PodSelector, err = labels.Parse(value)
	return err
}

func (s *settings) setMinReady(value string) error {
	n, err := strconv.ParseUint(value, 10, 16)
	if err != nil {
		return errors.New("write a whole number of nodes")
	}
	s.MinReady = int(n)
	return nil
}

// setExclude accepts true, false, or how long to wait after the node has its label.
func (s *settings) setExclude(value string) error {
	if on, err := strconv.ParseBool(value); err == nil {
		s.ExcludeFromLoadBalancers, s.LoadBalancerWait = on, 0
		return nil
	}
	s.ExcludeFromLoadBalancers = true
	return (&timeValue{&s.LoadBalancerWait, time.Second}).Set(value)
}

func (s *settings) addBlockingPods(value string) error {
	for text := range strings.SplitSeq(value, ";") {
		selector, err := labels.Parse(text)
		if err != nil {
			return err
		}
		if selector.Empty() {
			return errors.New("an empty selector would match every pod")
		}
		s.BlockingPods = append(s.BlockingPods, selector)
	}
	return nil
}

// check checks settings against each other.
func (s *settings) check() error {
	sameKeys := slices.Equal(slices.Sorted(maps.Keys(s.PreRebootLabels)), slices.Sorted(maps.Keys(s.PostRebootLabels)))
	switch {
	case s.ForceAfter >= s.Timeout:
		return fmt.Errorf("--force-after %v never comes: --timeout is %v", s.ForceAfter, s.Timeout)
	case s.LoadBalancerWait >= s.Timeout:
		return fmt.Errorf("--exclude-from-load-balancers=%v leaves no time for the drain: --timeout is %v",
			s.LoadBalancerWait, s.Timeout)
	case s.ForceAfter > 0 && s.LoadBalancerWait+s.ForceAfter >= s.Timeout:
		return fmt.Errorf("--force-after %v never comes: it is counted from the cordon, after "+
			"--exclude-from-load-balancers=%v, and --timeout is %v", s.ForceAfter, s.LoadBalancerWait, s.Timeout)
	case !s.FLUO && len(s.BeforeRebootAnnotations)+len(s.AfterRebootAnnotations) > 0:
		return errors.New("--before-reboot-annotations and --after-reboot-annotations need --fluo")
	case !sameKeys:
		return errors.New("--pre-reboot-node-labels and --post-reboot-node-labels have to set the same labels")
	}
	return nil
}

// prefix begins the variables of all settings.
const prefix = "LOCKSMITH_KUBERNETES_"

// variable returns the variable of a flag, "" if it has none.
func variable(flag *pflag.Flag) string {
	switch flag.Name {
	case "cancelled", "help", "version":
		return ""
	}
	return prefix + strings.ToUpper(strings.ReplaceAll(flag.Name, "-", "_"))
}

// flagSets returns the flags that all commands have, and those of each.
func flagSets(root *cobra.Command) []*pflag.FlagSet {
	sets := []*pflag.FlagSet{root.PersistentFlags()}
	for _, command := range root.Commands() {
		sets = append(sets, command.LocalNonPersistentFlags())
	}
	return sets
}

// fromEnvironment sets the flags that were not given from their variables. An unknown variable is an error: a misspelled
// one could evict pods that were to stay.
func fromEnvironment(environ []string, root *cobra.Command) error {
	flags := map[string]*pflag.Flag{} // by variable
	for _, set := range flagSets(root) {
		set.VisitAll(func(flag *pflag.Flag) { flags[variable(flag)] = flag })
	}
	delete(flags, "") // of flags without a variable
	for _, setting := range environ {
		name, value, _ := strings.Cut(setting, "=")
		flag, known := flags[name]
		switch {
		case !strings.HasPrefix(name, prefix) || value == "" || known && flag.Changed:
			continue
		case !known:
			return fmt.Errorf("%s is not a setting: /usr/share/doc/locksmith-kubernetes/examples/kubernetes.conf has all of them", name)
		}
		if err := flag.Value.Set(value); err != nil {
			if flag.Value.Type() == "bool" {
				err = errors.New("write true or false")
			}
			return fmt.Errorf("%s=%q: %w", name, value, err)
		}
	}
	return nil
}

// timeValue is a length of time between least and 24 hours.
type timeValue struct {
	*time.Duration
	least time.Duration
}

func (v *timeValue) Set(value string) error {
	d, err := time.ParseDuration(value)
	if err != nil || d < v.least || d > 24*time.Hour {
		return fmt.Errorf("write a length of time from %v to 24h, such as 90s or 10m", v.least)
	}
	*v.Duration = d
	return nil
}

func (v *timeValue) Type() string { return "TIME" }

// listValue is a list of names, separated by commas.
type listValue struct {
	names   *[]string
	invalid func(string) []string
}

func (v *listValue) Set(value string) error {
	for name := range strings.SplitSeq(value, ",") {
		name = strings.TrimSpace(name)
		if wrong := v.invalid(name); len(wrong) > 0 {
			return fmt.Errorf("%q: %s", name, wrong[0])
		}
		*v.names = append(*v.names, name)
	}
	return nil
}

func (v *listValue) String() string { return "" }
func (v *listValue) Type() string   { return "LIST" }

// labelsValue is a list of labels, KEY=VALUE, separated by commas.
type labelsValue struct{ labels *map[string]string }

func (v *labelsValue) Set(value string) error {
	for label := range strings.SplitSeq(value, ",") {
		key, value, found := strings.Cut(strings.TrimSpace(label), "=")
		if !found {
			return fmt.Errorf("%q: write KEY=VALUE", label)
		}
		if wrong := slices.Concat(validation.IsQualifiedName(key), validation.IsValidLabelValue(value)); len(wrong) > 0 {
			return fmt.Errorf("%q: %s", label, wrong[0])
		}
		if *v.labels == nil {
			*v.labels = map[string]string{}
		}
		(*v.labels)[key] = value
	}
	return nil
}

func (v *labelsValue) String() string { return "" }
func (v *labelsValue) Type() string   { return "LABELS" }

// readBootID reads the id of this boot from a file of the kernel.
func (s *settings) readBootID(path string) error {
	id, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read the id of this boot: %w", err)
	}
	s.BootID = strings.TrimSpace(string(id))
	return nil
}
