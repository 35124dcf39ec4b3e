// Command locksmith-kubernetes takes the Kubernetes node of this host through a reboot. The hooks of locksmithd start
// it: it says whether the node may reboot, drains the node before the reboot, and takes it back afterwards.
//
// It guarantees:
//   - the exit status is 0 only if everything was done, or the answer is yes; it is 2 on wrong usage, and 1 otherwise;
//   - a failure is one line, on standard error and as the status of the unit;
//   - the settings of all commands are checked before the first request to the API server;
//   - a signal ends it at once, and "uncordon --cancelled" undoes what it has begun.
//
// It does not reboot, and does not decide when to.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/locksmithd/locksmith/internal/safetext"
	"github.com/locksmithd/locksmith/kubernetes/node"
	"github.com/locksmithd/locksmith/systemd"
)

// version is set by the linker.
var version = "dev"

// mayRebootTimeout is shorter than the 30 seconds that locksmithd waits for scripts in may-reboot.d: a script that takes
// longer counts as a no, and its reason is lost.
const mayRebootTimeout = 25 * time.Second

func main() {
	os.Exit(run(os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}

// usageError says that the command line is wrong.
type usageError struct{ error }

// run runs one command and returns the exit status.
func run(args, environ []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	a := &app{environ: environ, stdout: stdout}
	root := a.rootCommand()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintln(stderr, printable(err.Error()))
	notify(err.Error())
	if errors.As(err, new(usageError)) {
		return 2
	}
	return 1
}

// app is one run of the program.
type app struct {
	settings
	environ []string
	stdout  io.Writer

	shown   string    // the last status
	printed time.Time // when a status was last printed
}

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "locksmith-kubernetes COMMAND",
		Short: "Take a Kubernetes node through a reboot by locksmithd",
		Long: `locksmith-kubernetes takes the Kubernetes node of this host through a reboot by
locksmithd, whose hooks start it. It uses the kubeconfig of the kubelet, whose
rights are enough.

Every flag but --cancelled can be set by a variable as well, which the flag
overrides: --pod-selector by LOCKSMITH_KUBERNETES_POD_SELECTOR. The hooks read
variables from /etc/locksmith/kubernetes.conf.

Exit status: 0 success, or yes; 1 failure, or no; 2 wrong usage.`,
		Version:           version,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		Args:              noArguments,
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	a.commonFlags(root.PersistentFlags())

	drain := &cobra.Command{
		Use:   "drain",
		Short: "Cordon the node, and evict its pods",
		Long: `drain cordons the node, and evicts its pods within their disruption budgets. Pods
of DaemonSets, static pods and finished pods stay. If it fails, or is stopped,
"uncordon --cancelled" undoes what it has done.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			if err := n.Drain(cmd.Context()); err != nil {
				return err
			}
			fmt.Fprintf(a.stdout, "node %s is drained\n", n.Name())
			return nil
		},
	}
	a.drainFlags(drain.Flags())

	cancelled := false
	uncordon := &cobra.Command{
		Use:   "uncordon",
		Short: "Take the node back after a reboot",
		Long: `uncordon waits until the node is Ready and its DaemonSet pods run, and lifts the
cordon that drain has made. A cordon that somebody else has made stays.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !cancelled {
				if err := a.readBootID("/proc/sys/kernel/random/boot_id"); err != nil {
					return err
				}
			}
			n, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			return n.Uncordon(cmd.Context(), cancelled)
		},
	}
	a.uncordonFlags(uncordon.Flags())
	uncordon.Flags().BoolVar(&cancelled, "cancelled", false, "there was no reboot: undo a drain at once")

	mayReboot := &cobra.Command{
		Use:   "may-reboot",
		Short: "Say whether the node may reboot now",
		Long: `may-reboot exits 0 if the node may reboot now, and else 1, with the reason in its
first line. An administrator holds a node back with the annotation
flatcar-linux-update.v1.flatcar-linux.net/reboot-paused=true.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			late := fmt.Errorf("no answer within %v", mayRebootTimeout)
			ctx, stop := context.WithTimeoutCause(cmd.Context(), mayRebootTimeout, late)
			defer stop()
			n, err := a.connect(ctx)
			if err != nil {
				return err
			}
			obstacle, err := n.MayReboot(ctx)
			if err == nil && obstacle != "" {
				err = errors.New(obstacle)
			}
			return err
		},
	}
	a.mayRebootFlags(mayReboot.Flags())

	for _, cmd := range []*cobra.Command{drain, uncordon, mayReboot} {
		cmd.Args = noArguments
		cmd.DisableFlagsInUseLine = true
		root.AddCommand(cmd)
	}
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		if err := fromEnvironment(a.environ, root); err != nil {
			return fmt.Errorf("%w (hooks read it from /etc/locksmith/kubernetes.conf)", err)
		}
		for _, variable := range a.environ {
			if version, found := strings.CutPrefix(variable, "LOCKSMITH_VERSION="); found {
				a.NewVersion = version
			}
		}
		if err := a.check(); err != nil {
			return fmt.Errorf("%w (hooks read --timeout from /etc/locksmith/kubernetes.conf as LOCKSMITH_KUBERNETES_TIMEOUT, "+
				"and so on)", err)
		}
		return nil
	}
	return root
}

func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("%s takes no argument %q: see --help", cmd.CommandPath(), args[0])}
	}
	return nil
}

func (a *app) connect(ctx context.Context) (*node.Node, error) {
	return node.Connect(ctx, a.kubeconfig, a.node, a.Settings, a.status)
}

// printInterval is the shortest time between two statuses in the journal.
const printInterval = 10 * time.Second

// status shows what the program waits for: each change as the status of the unit, and some of them in the journal.
func (a *app) status(text string) {
	if text == a.shown {
		return
	}
	a.shown = text
	notify(text)
	if now := time.Now(); now.Sub(a.printed) >= printInterval {
		a.printed = now
		fmt.Fprintln(a.stdout, printable(text))
	}
}

// printable makes one line of a text with names that others have chosen.
func printable(text string) string { return safetext.Cut(text, 4096) }

// notify sets the status of the unit. An error is ignored: the work goes on without a status.
func notify(text string) { _ = systemd.NotifyStatus(text) }
