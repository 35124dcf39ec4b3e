package hooks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/locksmithd/locksmith/internal/program"
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

type runner struct {
	phase          Phase
	grace          time.Duration
	stdout, stderr io.Writer
	status         func(string)
}

func (r runner) runAll(ctx context.Context, root string) error {
	scripts, err := Scripts(root, r.phase)
	if err != nil {
		r.status(safetext.Cut(err.Error(), maxFailure))
		return err
	}
	scripts = slices.DeleteFunc(scripts, func(s Script) bool { return s.Masked })
	var failures []string
	for i, s := range scripts {
		r.status(fmt.Sprintf("%s is running, %d of %d", safetext.Cut(s.Name, maxFailure), i+1, len(scripts)))
		failure := r.run(ctx, s)
		if failure == "" {
			continue
		}
		failures = append(failures, s.Name+": "+failure)
		if r.phase != RebootCancelled || ctx.Err() != nil {
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
	p := program.Program{
		Name: s.Name, Args: []string{s.Path}, Environ: []string{variable("PHASE") + "=" + string(r.phase)},
		Grace: r.grace, Stdout: r.stdout, Stderr: r.stderr,
	}
	line, err := p.Run(ctx)
	return program.Describe(err, line)
}
