package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/locksmithd/locksmith/internal/config"
	"github.com/locksmithd/locksmith/internal/host"
	"github.com/locksmithd/locksmith/systemd"
)

// app is one run of the program.
type app struct {
	process
	root  string        // directory that stands for "/"
	flags []config.Flag // for settings, in the order of the command line
	log   *slog.Logger  // debug output

	service func() *systemd.Service // how systemd starts locksmithd here; looked up once, nil if it is unknown
	noted   []string                // notes about settings that were written
	boot    host.Boot               // once thisBoot has been asked
}

// thisBoot returns the boot that this host is in. Only what takes a slot for it or gives back its own, and what is
// undone after a boot, needs that: systemd has to answer.
func (a *app) thisBoot(ctx context.Context) (boot host.Boot, err error) {
	if a.boot == (host.Boot{}) {
		a.boot, err = host.ThisBoot(ctx, a.root)
	}
	return a.boot, err
}

// usageError says that the command line is wrong.
type usageError struct{ error }

func (a *app) rootCommand() *cobra.Command {
	a.log = slog.New(slog.DiscardHandler)
	root := &cobra.Command{
		Use:   "locksmithctl COMMAND",
		Short: "Show and change the reboot lock of a fleet",
		Long: `locksmithctl shows and changes the lock under which the hosts of a fleet reboot,
one after another.

Settings come from, strongest first: flags, the environment, and the settings of
locksmithd on this host: flags, environment and EnvironmentFile= of its unit and drop-ins,
/etc/locksmith/locksmith.conf, /etc/flatcar/update.conf, /usr/share/flatcar/update.conf,
/usr/lib/locksmith/locksmith.conf. So without flags it uses the lock that locksmithd on
this host uses.

Exit status: 0 success, 1 failure, 2 wrong usage.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return nil
		},
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetUsageFunc(usage)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.PersistentPreRun = func(cmd *cobra.Command, _ []string) {
		a.service = sync.OnceValue(func() *systemd.Service { return a.findService(cmd.Context()) })
	}
	root.SetVersionTemplate("locksmithctl version {{.Version}}\n")
	root.SuggestionsMinimumDistance = 2 // what cobra uses for its own messages

	for _, d := range config.Definitions() {
		if !d.Flag {
			continue
		}
		f := root.PersistentFlags().VarPF(&settingFlag{app: a, definition: d}, d.Name, "", flagUsage(d))
		if d.Switch {
			f.NoOptDefVal = "true"
		}
	}
	root.PersistentFlags().StringVar(&a.root, "root", "", "`DIR` below which machine-id, locksmith.conf, update.conf and locksmithd's unit are")
	root.PersistentFlags().Bool("version", false, "print the version and exit")

	root.AddCommand(
		a.statusCommand(),
		a.planCommand(),
		a.hostsCommand(),
		a.setMaxCommand(),
		a.lockCommand(),
		a.unlockCommand(),
		a.waitCommand(),
		a.pauseCommand(),
		a.resumeCommand(),
		a.holdCommand(),
		a.unholdCommand(),
		a.rebootCommand(),
		a.sendNeedRebootCommand(),
		a.configCommand(),
		a.windowCommand(),
		a.hooksCommand(),
		a.sentinelCommand(),
		a.notifyCommand(),
		a.importCommand(),
		a.serveCommand(),
	)
	root.SetHelpCommand(helpCommand())
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	setDefaults(root)
	return root
}

// setDefaults sets what all commands have in common, for a command and those below it.
func setDefaults(cmd *cobra.Command) {
	cmd.Version = version // so that -version may stand anywhere
	cmd.DisableFlagsInUseLine = true
	if cmd.ValidArgsFunction == nil {
		cmd.ValidArgsFunction = cobra.NoFileCompletions
	}
	if !cmd.Runnable() { // cobra would show help and exit 0 whatever the arguments are
		cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	}
	check := cmd.Args
	if check == nil {
		check = takes(0, 0, "no arguments")
	}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError{err}
		}
		return nil
	}
	for _, sub := range cmd.Commands() {
		setDefaults(sub)
	}
}

func unknownCommand(cmd *cobra.Command, name string) error {
	text := fmt.Sprintf("unknown command %q", name)
	if near := cmd.Root().SuggestionsFor(name); len(near) > 0 {
		text += fmt.Sprintf(", did you mean %q?", strings.Join(near, `" or "`))
	}
	return usageError{errors.New(text)}
}

// takes checks the number of arguments; what describes them.
func takes(least, most int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < least || len(args) > most {
			return fmt.Errorf("%s takes %s, and got %d", cmd.Name(), what, len(args))
		}
		return nil
	}
}

// takesID checks the arguments of a command that is about a machine. An id may come from an unset variable of a script.
func takesID(cmd *cobra.Command, args []string) error {
	if len(args) == 1 && args[0] == "" {
		return errors.New("the machine id is empty")
	}
	return takes(0, 1, "at most one argument, a machine id")(cmd, args)
}
