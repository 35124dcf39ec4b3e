package hooks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/locksmithd/locksmith/internal/program"
	"github.com/locksmithd/locksmith/internal/readfile"
	"github.com/locksmithd/locksmith/internal/safetext"
)

// maxFailure bounds the text of a failure, in bytes, so that it fits into a status line.
const maxFailure = 200

// RunScripts runs the scripts of a phase, one after another, and tells status which one runs, and what failed. It is
// the body of `locksmithctl hooks scripts`, which the units start. The first failure ends the run; only of
// RebootCancelled every script runs, because each may undo something. What scripts print goes to stdout, and what there
// is to say about that to stderr. The end of ctx stops the script that runs.
func RunScripts(ctx context.Context, root string, p Phase, stdout, stderr io.Writer, status func(string)) error {
	r := runner{phase: p, grace: program.StopGrace, stdout: stdout, stderr: stderr, status: status}
	return r.runAll(ctx, root)
}

// RunNotify runs the scripts of Notify, in the same way, and all of them whatever becomes of the others. Each gets the
// file input on its standard input. The names of those that succeed go to the file done, and scripts that it names
// already do not run: after a failure only the others run again.
func RunNotify(ctx context.Context, root, input, done string, stdout, stderr io.Writer, status func(string)) error {
	r := runner{
		phase: Notify, grace: program.StopGrace, stdout: stdout, stderr: stderr, status: status, input: input, done: done,
	}
	return r.runAll(ctx, root)
}

type runner struct {
	phase          Phase
	grace          time.Duration
	input, done    string // paths, see RunNotify; "" for none
	stdout, stderr io.Writer
	status         func(string)
}

func (r runner) runAll(ctx context.Context, root string) error {
	scripts, err := Scripts(root, r.phase)
	if err != nil {
		r.status(safetext.Cut(err.Error(), maxFailure))
		return err
	}
	done := r.readDone()
	scripts = slices.DeleteFunc(scripts, func(s Script) bool { return s.Masked || slices.Contains(done, s.Name) })
	var failures []string
	for i, s := range scripts {
		r.status(fmt.Sprintf("%s is running, %d of %d", safetext.Cut(s.Name, maxFailure), i+1, len(scripts)))
		failure := r.run(ctx, s)
		if failure == "" {
			r.writeDone(s.Name)
			continue
		}
		failures = append(failures, s.Name+": "+failure)
		if r.phase != RebootCancelled && r.phase != Notify || ctx.Err() != nil {
			break
		}
	}
	if len(failures) > 0 {
		text := safetext.Cut(strings.Join(failures, "; "), maxFailure)
		r.status(text)
		return errors.New(text)
	}
	r.status("")
	return nil
}

// run runs one script and returns how it failed, "" for a success.
func (r runner) run(ctx context.Context, s Script) (failure string) {
	if ctx.Err() == nil && s.Problem != "" {
		return s.Problem
	}
	var input *os.File
	if r.input != "" {
		var err error
		if input, err = readfile.Open(r.input, 0); err != nil {
			return err.Error()
		}
		defer input.Close()
	}
	p := program.Program{
		Stdin: input, Name: s.Name, Args: []string{s.Path}, Environ: []string{variable("PHASE") + "=" + string(r.phase)},
		Grace: r.grace, Stdout: r.stdout, Stderr: r.stderr,
	}
	line, err := p.Run(ctx)
	return program.Describe(err, line)
}

// maxDone bounds what is read of the file done, in bytes.
const maxDone = 1 << 20

// readDone returns the names of the scripts that have succeeded before.
func (r runner) readDone() []string {
	if r.done == "" {
		return nil
	}
	data, err := readfile.Read(r.done, maxDone)
	if err != nil && !readfile.Absent(err) {
		fmt.Fprintf(r.stderr, "locksmithctl: scripts may run again that have succeeded: %v\n", err)
	}
	return strings.Split(string(data), "\x00")
}

func (r runner) writeDone(name string) {
	if r.done == "" {
		return
	}
	file, err := os.OpenFile(r.done, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err == nil {
		_, err = file.WriteString(name + "\x00")
		err = errors.Join(err, file.Close())
	}
	if err != nil {
		fmt.Fprintf(r.stderr, "locksmithctl: %s may run again although it has succeeded: %v\n", safetext.Clean(name), err)
	}
}
