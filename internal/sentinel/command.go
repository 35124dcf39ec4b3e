package sentinel

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"

	"github.com/locksmithd/locksmith/internal/program"
	"github.com/locksmithd/locksmith/internal/safetext"
)

// Command is a command that says whether the host needs a reboot: by exit status 0 that it does, with the reason in the
// first line that it prints, and by 1 that it does not. Nothing else is an answer.
type Command struct {
	Text           string // for /bin/sh, or the name of a ready command
	Root           string // directory that stands for "/", for ready commands
	Stdout, Stderr io.Writer
}

// Run runs the command and returns what it says. The end of ctx stops it.
func (c Command) Run(ctx context.Context) State {
	s := State{}
	if ask, ready := readyCommands[c.Text]; ready {
		s = ask(ctx, c)
	} else {
		status, line, err := c.run(ctx, "the command", nil, "/bin/sh", "-c", c.Text)
		switch {
		case err != nil:
			s.Err = err
		case status == 0:
			s = State{Needed: true, Reason: line}
		case status != 1:
			s.Err = failure("the command", status, line)
		}
	}
	s.Reason = safetext.Cut(s.Reason, maxReason)
	if s.Err != nil {
		s = State{Err: errors.New(safetext.Cut(s.Err.Error(), maxReason))}
	}
	return s
}

// run runs a program and returns its exit status and the first line that it prints. An error means that it has none.
func (c Command) run(ctx context.Context, name string, environ []string, args ...string) (status int, line string, err error) {
	line, err = program.Program{
		Name: name, Args: args, Environ: environ, Grace: program.StopGrace, Stdout: c.Stdout, Stderr: c.Stderr,
	}.Run(ctx)
	exit, failed := errors.AsType[*exec.ExitError](err)
	switch {
	case failed && exit.Exited():
		return exit.ExitCode(), line, nil
	case err != nil:
		return 0, "", fmt.Errorf("%s gives no answer: %s", name, program.Describe(err, line))
	}
	return 0, line, nil
}

// failure is the error for an exit status that is not an answer, with what the program has printed.
func failure(name string, status int, text string) error {
	text = cmp.Or(text, "it prints nothing")
	return fmt.Errorf("%s gives no answer: exit status %d: %s", name, status, text)
}

// capture is run, and returns all that is printed instead of the first line.
func (c Command) capture(ctx context.Context, name string, environ []string, args ...string) (status int, text string, err error) {
	var b bytes.Buffer
	c.Stdout = io.MultiWriter(&b, c.Stdout)
	status, _, err = c.run(ctx, name, environ, args...)
	return status, strings.TrimSpace(b.String()), err
}
