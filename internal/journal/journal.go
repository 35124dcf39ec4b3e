// Package journal writes what a program says to standard error. If that goes to the journal, a line begins with its
// priority, as sd-daemon(3) describes, so that journalctl -p works, and has neither the time nor the name of the
// program, because the journal adds these.
package journal

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"
)

// Stderr is standard error of a program.
type Stderr struct {
	w         io.Writer
	program   string
	toJournal bool
}

// New returns the standard error of a program with this name and environment, see $JOURNAL_STREAM in
// systemd.exec(5).
func New(w io.Writer, program string, environ []string) Stderr {
	return Stderr{w, program, slices.ContainsFunc(environ, func(e string) bool { return strings.HasPrefix(e, "JOURNAL_STREAM=") })}
}

// prefix is what a line begins with, in the journal and elsewhere.
func (s Stderr) prefix(journal, elsewhere string) string {
	if s.toJournal {
		return journal
	}
	return elsewhere
}

// Error writes an error that nothing but its text explains.
func (s Stderr) Error(err error) {
	for line := range strings.Lines(err.Error()) {
		fmt.Fprintf(s.w, "%s%s\n", s.prefix("<3>", s.program+": "), strings.TrimSpace(line))
	}
}

// Announce writes a message as an emergency, which the journal shows on the terminals of all users who are logged
// in, see ForwardToWall= in journald.conf(5). That needs no privilege, no device and no other program, and no
// terminal can block this process.
func (s Stderr) Announce(message string) error {
	if _, err := fmt.Fprintf(s.w, "%s%s\n", s.prefix("<0>", ""), message); err != nil {
		return fmt.Errorf("tell the users who are logged in: %w", err)
	}
	return nil
}

// Logger returns a logger that writes lines. Their times are in the zone that zone returns.
func (s Stderr) Logger(level slog.Leveler, zone func() *time.Location) *slog.Logger {
	o := &slog.HandlerOptions{Level: level, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		switch {
		case len(groups) > 0 || a.Key != slog.TimeKey && a.Key != slog.LevelKey:
		case s.toJournal:
			return slog.Attr{}
		case a.Key == slog.TimeKey:
			a.Value = slog.TimeValue(a.Value.Time().In(zone()))
		}
		return a
	}}
	if !s.toJournal {
		return slog.New(slog.NewTextHandler(s.w, o))
	}
	var all byLevel
	for n, priority := range []string{"<7>", "<6>", "<4>", "<3>"} {
		all[n] = slog.NewTextHandler(prefixed{s.w, priority}, o)
	}
	return slog.New(all)
}

// byLevel passes each record to the handler of its level, from debug to error.
type byLevel [4]slog.Handler

func (h byLevel) of(level slog.Level) slog.Handler {
	return h[min(max(level-slog.LevelDebug, 0)/(slog.LevelInfo-slog.LevelDebug), 3)]
}

func (h byLevel) Enabled(ctx context.Context, l slog.Level) bool { return h.of(l).Enabled(ctx, l) }

func (h byLevel) Handle(ctx context.Context, r slog.Record) error {
	return h.of(r.Level).Handle(ctx, r)
}

func (h byLevel) WithAttrs(attrs []slog.Attr) slog.Handler {
	for n := range h { // of the copy
		h[n] = h[n].WithAttrs(attrs)
	}
	return h
}

func (h byLevel) WithGroup(name string) slog.Handler {
	for n := range h {
		h[n] = h[n].WithGroup(name)
	}
	return h
}

// prefixed puts a prefix before each write: a slog handler makes one for each line.
type prefixed struct {
	w      io.Writer
	prefix string
}

func (p prefixed) Write(line []byte) (int, error) {
	n, err := p.w.Write(append([]byte(p.prefix), line...))
	return max(0, n-len(p.prefix)), err
}
