package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/locksmithd/locksmith/internal/config"
	"github.com/locksmithd/locksmith/internal/hooks"
	"github.com/locksmithd/locksmith/internal/host"
	"github.com/locksmithd/locksmith/internal/notify"
	"github.com/locksmithd/locksmith/systemd"
)

func (a *app) notifyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "notify",
		Short: "Try the notifications of this host",
		Long: `locksmithd sends a notification when this host reboots, is back and well, or needs
attention. It sends it to the web hook in LOCKSMITHD_NOTIFY_URL and to the scripts in
/etc/locksmith/notify.d. "pause", "resume", "reboot", "serve" and commands that free an
expired slot send their notifications themselves, from the host on which they run.

"locksmithctl notify test" sends a test notification to both, and shows the answers.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf(`unknown command "notify %.50s": write "notify test"`, args[0])
			}
			return nil
		},
	}
	cmd.AddCommand(a.notifyTestCommand(), a.notifyScriptsCommand())
	return cmd
}

func (a *app) notifyTestCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "test",
		Short: "Send a test notification now, and show the answer",
		Long: `test sends a notification that says that it is a test to the web hook of
LOCKSMITHD_NOTIFY_URL, whatever LOCKSMITHD_NOTIFY_EVENTS says, and prints what the server
answers. As root it also runs the scripts in notify.d, as locksmithd does. It tries once,
and fails if the server or a script fails.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.settings(config.PartNotify)
			if err != nil {
				return err
			}
			for _, w := range cfg.Warnings {
				a.note("warning: %s", w)
			}
			e, err := a.event(notify.Event{Type: notify.Test})
			if err != nil {
				return err
			}
			results := a.deliver(cmd.Context(), cfg.Notify, e)
			if len(results) == 0 {
				return errors.New("there is nobody to notify: set LOCKSMITHD_NOTIFY_URL in /etc/locksmith/locksmith.conf, or put a script into /etc/locksmith/notify.d")
			}
			failed := false
			for _, r := range results {
				if r.err != nil {
					failed = true
					a.note("%s: not delivered: %v", r.to, r.err)
				} else if err := a.print(fmt.Sprintf("%s: %s\n", r.to, r.answer)); err != nil {
					return err
				}
			}
			if failed {
				return errors.New("notify: the test was not delivered to all")
			}
			return nil
		},
	}
}

// event completes an event that this command causes.
func (a *app) event(e notify.Event) (notify.Event, error) {
	var err error
	e.Host, err = host.Name(a.root)
	return e.Complete(a.now()), err
}

// delivery is the result of sending an event to one receiver.
type delivery struct {
	to, answer string
	err        error
}

// notifyScripts returns what runs the scripts of this host.
func (a *app) notifyScripts() notify.Scripts {
	return notify.Scripts{Root: a.root, Units: systemd.Units{Connect: systemd.ConnectSystemBus}, Log: a.log}
}

var errOnlyRoot = errors.New("only root may run the scripts: run this command with sudo")

// deliver sends an event to the web hook and to the scripts, at the same time.
func (a *app) deliver(ctx context.Context, cfg notify.Config, e notify.Event) []delivery {
	var post, run delivery
	var both sync.WaitGroup
	if cfg.URL != "" {
		post.to = cfg.URL.String()
		both.Go(func() { post.answer, post.err = cfg.URL.Post(ctx, e) })
	}
	if scripts := a.notifyScripts(); scripts.Any() {
		run.to, run.answer = string(hooks.Notify)+".d", "all scripts have succeeded"
		switch {
		case a.euid != 0:
			run.err = errOnlyRoot
		case a.root != "":
			run.err = errors.New("the scripts do not run with -root, because they run in a unit of systemd")
		default:
			both.Go(func() {
				if run.err = scripts.Run(ctx, e); run.err != nil {
					scripts.Forget(e) // it is not delivered again
				}
			})
		}
	}
	both.Wait()
	var results []delivery
	for _, r := range []delivery{post, run} {
		if r.to != "" {
			results = append(results, r)
		}
	}
	return results
}

// tellTimeout bounds how long a command sends notifications after its work is done.
const tellTimeout = 5 * time.Second

// tell sends notifications about what this command has done. It tries once; the command succeeds even if that fails.
func (a *app) tell(ctx context.Context, events ...notify.Event) {
	if len(events) == 0 {
		return
	}
	ctx, cancel := context.WithTimeoutCause(ctx, tellTimeout, fmt.Errorf("no answer within %v", tellTimeout))
	defer cancel()
	cfg, err := a.settings(config.PartNotify)
	for _, e := range events {
		if err == nil && e.By == "" {
			e.By, err = a.operator()
		}
		if err == nil {
			e, err = a.event(e)
		}
		if err != nil {
			a.note("no notification is sent: %v", err)
			return
		}
		if !cfg.Notify.Chosen(e.Type) {
			continue
		}
		for _, r := range a.deliver(ctx, cfg.Notify, e) {
			if r.err != nil {
				a.note("the notification is not delivered to %s: %v", r.to, r.err)
			}
		}
	}
}

func (a *app) notifyScriptsCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "scripts ID",
		Hidden: true, // only the unit uses it
		Short:  "Run the scripts in notify.d for an event",
		Long: `scripts runs the scripts in notify.d in this process, one after another. Each gets the
event with this ID in its environment, and as a JSON document on standard input. The unit
locksmith-notify@ID.service runs this command.

All scripts run, even if some fail; those that have succeeded for this event do not run
again. Of each script's output, a megabyte is passed on. A failure is also the unit's
status.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if err := takes(1, 1, "one argument, the id of an event")(cmd, args); err != nil {
				return err
			}
			_, err := notify.FilesOf("", args[0])
			return err
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			files, err := notify.FilesOf(a.root, args[0])
			if err != nil {
				return err
			}
			// What scripts return counts, whether the journal takes what they print or has gone. The signal is caught
			// and not ignored, since scripts would inherit that.
			a.stdout, a.stderr = unchecked(a.stdout), unchecked(a.stderr)
			signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
			return hooks.RunNotify(cmd.Context(), a.root, files.Document, files.Done, a.stdout, a.stderr, func(status string) {
				if err := systemd.NotifyStatus(status); err != nil {
					a.note("tell systemd what runs: %v", err)
				}
			})
		},
	}
}
