package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/locksmithd/locksmith/internal/config"
	"github.com/locksmithd/locksmith/internal/hooks"
	"github.com/locksmithd/locksmith/internal/host"
	"github.com/locksmithd/locksmith/internal/safetext"
	"github.com/locksmithd/locksmith/internal/view"
	"github.com/locksmithd/locksmith/systemd"
)

func (a *app) hooksCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "hooks",
		Short: "Show what runs around a reboot of this host, or run it",
		Long: `hooks lists the scripts and units that locksmithd runs before and after a reboot of this
host, in the order in which they run, with the place that each comes from. A note says that
a script is masked, hides others of its name, or cannot run.

The phases are may-reboot, which can refuse a reboot; before-reboot, with the slot held;
reboot-cancelled, which undoes before-reboot if no reboot follows; and after-reboot, which
has to succeed before the host counts as well.

Scripts are in /etc/locksmith/PHASE.d, /run/locksmith/PHASE.d and
/usr/lib/locksmith/PHASE.d. They run one after another, in the order of their names. If
several folders have a script of the same name, the one in the first of these folders
counts; a link to /dev/null there masks the others. Units are those that
locksmith-PHASE.target pulls in, and for after-reboot, before everything else, those that
boot-complete.target pulls in. Units start in no order, except for the one that they set
themselves.

"locksmithctl hooks run PHASE" runs one phase now and shows the result. An interrupt, or
the end of its -timeout (10m), stops what still runs.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf(`unknown command "hooks %.50s": write "hooks", "hooks run PHASE" or "hooks scripts PHASE"`, args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return a.listHooks(cmd.Context()) },
	}
	cmd.AddCommand(a.hooksRunCommand(), a.hooksScriptsCommand())
	return cmd
}

// hooks returns the hooks of this host. What runs before a reboot needs its boot.
func (a *app) hooks(boot host.Boot) *hooks.Hooks {
	return &hooks.Hooks{
		Root:  a.root,
		Boot:  boot.ID,
		Units: systemd.Units{Connect: systemd.ConnectSystemBus},
		Log:   slog.New(slog.NewTextHandler(a.stderr, nil)),
	}
}

// unitsTimeout limits the questions to systemd about what is hooked in.
const unitsTimeout = 10 * time.Second

func (a *app) listHooks(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, unitsTimeout)
	defer cancel()
	h := a.hooks(host.Boot{})
	table := view.NewTable("PHASE", "ORDER", "HOOK", "FROM", "NOTE")
	rows, complete := 0, true
	row := func(p hooks.Phase, cells ...string) {
		rows++
		table.Row(append([]string{string(p)}, cells...)...)
	}
	incomplete := func(err error) {
		complete = false
		a.note("%v", err)
	}
	asks := a.root == "" // systemd, until it does not answer
	units := func(p hooks.Phase, order, target string, find func() ([]string, error)) {
		if !asks {
			return
		}
		names, err := find()
		if err != nil && !errors.Is(err, systemd.ErrNoUnit) {
			asks = false
			incomplete(err)
		}
		for _, name := range names {
			row(p, order, safetext.Clean(name), target, "")
		}
	}
	for _, p := range hooks.Phases() {
		if p == hooks.AfterReboot {
			units(p, "first", hooks.BootComplete, func() ([]string, error) { return h.Units.PullsIn(ctx, hooks.BootComplete) })
		}
		units(p, "", p.Target(), func() ([]string, error) { return h.PulledIn(ctx, p) })
		scripts, err := hooks.Scripts(a.root, p)
		if err != nil {
			incomplete(err)
		}
		order := 0
		for _, s := range scripts {
			place := ""
			if !s.Masked {
				order++
				place = strconv.Itoa(order)
			}
			row(p, place, safetext.Clean(s.Name), safetext.Clean(s.Path), noteOf(s))
		}
	}
	if a.root != "" {
		a.note("only scripts are shown, because systemd knows no units below -root")
	}
	text := "Nothing runs around a reboot of this host.\n"
	if rows > 0 {
		text = table.String()
	}
	if rows > 0 || complete {
		if err := a.print(text); err != nil {
			return err
		}
	}
	if !complete {
		return errors.New("there may be hooks that are not shown")
	}
	return nil
}

// noteOf says what is unusual about a script.
func noteOf(s hooks.Script) string {
	text := s.Problem
	if s.Masked {
		text = "masked"
	}
	if len(s.Hides) > 0 {
		if text != "" {
			text += "; "
		}
		text += "hides " + safetext.List(s.Hides)
	}
	return safetext.Clean(text)
}

// takesPhase checks the argument of a command that is about a phase.
func takesPhase(cmd *cobra.Command, args []string) error {
	if err := takes(1, 1, "one argument, a phase")(cmd, args); err != nil {
		return err
	}
	_, err := hooks.ParsePhase(args[0])
	return err
}

func completePhase(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	var names []cobra.Completion
	if len(args) == 0 {
		for _, p := range hooks.Phases() {
			names = append(names, cobra.Completion(p))
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// hooksTimeout limits a phase that is run by hand, if no other limit is given.
const hooksTimeout = 10 * time.Minute

func (a *app) hooksRunCommand() *cobra.Command {
	timeout := timeFlag(hooksTimeout)
	cmd := &cobra.Command{
		Use:   "run PHASE [-timeout TIME]",
		Short: "Run the hooks of a phase now, and show the result",
		Long: `run starts the scripts and units of a phase, as locksmithd does, waits for their end and
shows the result. It does not check the window, the lock or who is logged in before.
"hooks run before-reboot" takes this host out of service; "hooks run reboot-cancelled"
undoes that.

An interrupt, or the end of -timeout, stops what still runs.`,
		Args:              takesPhase,
		ValidArgsFunction: completePhase,
		RunE: func(cmd *cobra.Command, args []string) error {
			if a.euid != 0 {
				return errors.New("only root may run hooks: run it with sudo")
			}
			ctx, cancel := context.WithTimeoutCause(cmd.Context(), time.Duration(timeout), fmt.Errorf("it took longer than %s", timeout.String()))
			defer cancel()
			return a.runHooks(ctx, hooks.Phase(args[0]))
		},
	}
	timeout.register(cmd, "timeout", timeoutUsage)
	return cmd
}

func (a *app) runHooks(ctx context.Context, p hooks.Phase) error {
	var boot host.Boot
	var err error
	if p == hooks.BeforeReboot {
		if boot, err = a.thisBoot(ctx); err != nil {
			return err
		}
	}
	h := a.hooks(boot)
	hooked, err := h.Hooked(ctx, p)
	if err != nil {
		return err
	}
	if !hooked {
		return a.print(fmt.Sprintf("%s: nothing to run\n", p))
	}
	facts := hooks.Facts{Reason: "locksmithctl hooks run"}
	if facts.MachineID, err = host.MachineID(a.root); err != nil {
		return err
	}
	cfg, err := a.settings(config.PartStrategy)
	if err != nil {
		a.note("hooks are not told the group of this host: %v", err)
	} else {
		facts.Group = cfg.Value("group")
	}
	if err := h.Run(ctx, p, facts); err != nil {
		return fmt.Errorf(`%s failed: %w; "journalctl -b -u %s" shows what its scripts printed`, p, err, p.Service())
	}
	if err := a.print(fmt.Sprintf("%s: succeeded\n", p)); err != nil {
		return err
	}
	if p == hooks.BeforeReboot {
		a.note(`"locksmithctl hooks run %s" undoes it`, hooks.RebootCancelled)
	}
	return nil
}

func (a *app) hooksScriptsCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "scripts PHASE",
		Hidden: true, // it is for our units
		Short:  "Run the scripts of a phase in this process",
		Long: `scripts runs the scripts of a phase in this process, one after another. The units
locksmith-PHASE.service run this command: "locksmithctl hooks run PHASE" starts them, and
the other units of the phase.

It ends with the first script that fails. With reboot-cancelled all scripts run, and it
fails at the end. Of each script's output, a megabyte is passed on. The failure is also
the unit's status, so that systemctl status shows it.`,
		Args:              takesPhase,
		ValidArgsFunction: completePhase,
		RunE: func(cmd *cobra.Command, args []string) error {
			// What scripts return counts, whether the journal takes what they print or has gone. The signal is caught
			// and not ignored, since scripts would inherit that.
			a.stdout, a.stderr = unchecked(a.stdout), unchecked(a.stderr)
			signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
			return hooks.RunScripts(cmd.Context(), a.root, hooks.Phase(args[0]), a.stdout, a.stderr, func(status string) {
				if err := systemd.NotifyStatus(status); err != nil {
					a.note("tell systemd what runs: %v", err)
				}
			})
		},
	}
}
