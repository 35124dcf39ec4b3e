// Command locksmithd reboots this host after an update, one host of the fleet after another.
//
// This package reads the flags and wires the parts together; what the daemon does is in packages policy and daemon.
// The exit status is 0 when the daemon is asked to stop or the strategy is off, 1 on failure, 2 on wrong usage.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/locksmithd/locksmith/internal/config"
	"github.com/locksmithd/locksmith/internal/journal"
)

// version is set by the linker.
var version = "dev"

func main() {
	environ := os.Environ()
	stderr := journal.New(os.Stderr, "locksmithd", environ)
	status := run(os.Args[1:], environ, os.Stdout, stderr)
	stderr.Flush()
	os.Exit(status)
}

func run(args, environ []string, stdout io.Writer, stderr journal.Stderr) int {
	options, answer, callsOff, err := parseFlags(args)
	switch {
	case err != nil:
		stderr.Error("", fmt.Errorf("%w; locksmithd -help shows the flags", err))
		return 2
	case answer != "":
		if _, err := io.WriteString(stdout, answer); err != nil {
			stderr.Error("", fmt.Errorf("write the output: %w", err))
			return 1
		}
		return 0
	}
	// From here on SIGHUP asks for a reload, and does not end the process.
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	// A journal that goes away must not end the daemon, which systemd would take
	// for a clean end. Go ignores the inherited SIG_IGN.
	signal.Ignore(syscall.SIGPIPE)

	stderr.Below(options.Root)
	s := &server{root: options.Root, hangup: hangup, level: new(slog.LevelVar), leaving: func() {}}
	s.log = stderr.Logger(journal.Options{Level: s.level, Zone: s.location, JSON: s.json})
	if callsOff {
		if err := callOff(ctx, options.Root, s.log); err != nil {
			s.log.Error("locksmithd ends", "error", err)
			return 1
		}
		return 0
	}
	options.Environ = environ
	options.Warn = func(text string) { s.log.Warn(text) }
	s.loader = config.NewLoader(options)
	cfg, err := s.loader.Load()
	if err != nil {
		stderr.Error(journal.ConfigRefused, err)
		return 1
	}
	err = s.serve(ctx, cfg)
	switch {
	case err == nil:
		return 0
	case ctx.Err() != nil:
		s.log.Info("stopped", "error", err)
		return 0
	}
	s.log.Error("locksmithd ends", "error", err)
	return 1
}

// parseFlags reads the command line. The flags are those of the settings, with one dash or two, and --root, --version
// and --call-off. For help and the version it returns an answer, which is printed instead of starting the daemon.
func parseFlags(args []string) (o config.Options, answer string, callsOff bool, err error) {
	showVersion := false
	o.Program = config.Daemon
	flags := flag.NewFlagSet("locksmithd", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // it would add the usage to every mistake
	config.AddFlags(flags, &o.Flags)
	flags.StringVar(&o.Root, "root", "", "`directory` below which machine-id, locksmith.conf, update.conf and the coordinator file are")
	flags.BoolVar(&showVersion, "version", false, "print the version and exit")
	flags.BoolVar(&callsOff, "call-off", false, "call off a reboot that a locksmithd which has ended left scheduled, and exit: for ExecStopPost= of its unit")
	err = flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		var b strings.Builder
		b.WriteString("usage: locksmithd [flags]\n\nThe settings are read from flags, the environment, locksmith.conf and update.conf, in this order.\n\n")
		flags.SetOutput(&b)
		flags.PrintDefaults()
		return o, b.String(), false, nil
	case err == nil && flags.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q: only flags are taken", flags.Arg(0))
	case err == nil && showVersion:
		answer = "locksmithd version " + version + "\n"
	}
	return o, answer, callsOff, err
}
