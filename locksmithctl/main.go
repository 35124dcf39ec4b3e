// Command locksmithctl shows and changes the reboot lock that the hosts of a
// fleet share in etcd, and reboots this host under it.
//
// It guarantees that results go to standard output and everything else to
// standard error; that the exit status is 0 only if all was done, 2 on wrong
// usage and 1 on any other failure; that a command fails only because of
// settings that it uses; that no command waits for longer than its deadlines,
// and each ends at once when interrupted; and that nothing which other hosts
// have written into etcd reaches the terminal unescaped.
//
// It does not wait for a free slot (that is the daemon's work), and it keeps
// no state of its own.
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
)

// version is set by the linker.
var version = "dev"

// process is what the program has from its surroundings.
type process struct {
	args, environ  []string
	stdout, stderr io.Writer
	euid           int // effective user id
	now            func() time.Time
}

func main() {
	os.Exit(run(process{os.Args[1:], os.Environ(), os.Stdout, os.Stderr, os.Geteuid(), time.Now}))
}

// run runs one command and returns the exit status.
func run(p process) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal does not wait for anything

	a := &app{process: p}
	root := a.rootCommand()
	root.SetArgs(normalize(p.args))
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

// note says something on standard error, in one line.
func (a *app) note(format string, args ...any) {
	fmt.Fprintf(a.stderr, "locksmithctl: %s\n", printable(fmt.Sprintf(format, args...)))
}

// print writes a command's result.
func (a *app) print(result string) error {
	if _, err := io.WriteString(a.stdout, result); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}
