// Command locksmithctl shows and changes the reboot lock that the hosts of a fleet share in etcd, and reboots this
// host under it. It keeps no state of its own.
//
// It guarantees:
//   - results go to standard output, and everything else to standard error;
//   - the exit status is 0 only if everything was done, 2 on wrong usage, and 1 on any other failure;
//   - a command fails only because of settings that it uses;
//   - a command waits no longer than its deadlines unless it is asked to wait, and ends at once when interrupted;
//   - nothing that other hosts have written into etcd reaches the terminal unescaped or uncut.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// version is set by the linker.
var version = "dev"

// process is what the program gets from its surroundings.
type process struct {
	args, environ  []string
	stdin          *os.File
	stdout, stderr io.Writer
	euid           int // effective user id
	now            func() time.Time
}

// getenv returns an environment variable, "" if it is not set.
func (p process) getenv(name string) string {
	for _, entry := range p.environ {
		if n, value, _ := strings.Cut(entry, "="); n == name {
			return value
		}
	}
	return ""
}

func main() {
	os.Exit(run(process{os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr, os.Geteuid(), time.Now}))
}

// run runs one command and returns the exit status.
func run(p process) int {
	stdout, stderr := &output{Writer: p.stdout}, &output{Writer: p.stderr}
	p.stdout, p.stderr = stdout, stderr
	code := execute(p)
	if err := cmp.Or(stdout.failure.Load(), stderr.failure.Load()); err != nil && code == 0 {
		fmt.Fprintf(stderr, "locksmithctl: write the output: %v\n", *err)
		return 1
	}
	return code
}

// endSignals returns the signals that end a command, without those that were ignored when it was started, as by
// nohup(1), or by a shell for the background commands of a script. Notify would catch those as well.
func endSignals() []os.Signal {
	return slices.DeleteFunc([]os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP}, signal.Ignored)
}

func execute(p process) int {
	ctx, stop := signal.NotifyContext(context.Background(), endSignals()...)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal kills

	a := &app{process: p}
	root := a.rootCommand()
	if completesOneDash(p.args) {
		root.SetOut(oneDashWriter{p.stdout})
	}
	root.SetArgs(normalize(p.args, longFlags(root)))
	cmd, err := root.ExecuteContextC(ctx)
	var wrong usageError
	var settings settingsError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &wrong):
		a.note("%v", err)
		fmt.Fprintf(p.stderr, "usage: %s\n", cmd.UseLine())
		return 2
	case errors.As(err, &settings):
		for line := range strings.Lines(settings.Error()) {
			a.note("%s", strings.TrimSuffix(line, "\n"))
		}
	case ctx.Err() != nil:
		a.note("interrupted: %v", err)
	default:
		a.note("%v", err)
	}
	return 1
}
