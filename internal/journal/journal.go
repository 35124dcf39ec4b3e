// Package journal writes what a program says to standard error. If that goes to the journal, a line begins with its
// priority, as sd-daemon(3) describes, so that journalctl -p works, and has neither the time nor the name of the
// program, because the journal adds these.
package journal

import (
	"bytes"
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

// New returns the standard error of a program with this name and environment, see $JOURNAL_STREAM in systemd.exec(5).
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
		case len(groups) > 0:
		case a.Key == slog.TimeKey && s.toJournal:
			return slog.Attr{}
		case a.Key == slog.TimeKey:
			a.Value = slog.TimeValue(a.Value.Time().In(zone()))
		case a.Key == slog.LevelKey && s.toJournal:
			level, _ := a.Value.Any().(slog.Level)
			a.Value = slog.StringValue(priority(level))
		}
		return a
	}}
	w := s.w
	if s.toJournal {
		w = prioritized{w}
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// priority returns the priority of lines of a level.
func priority(level slog.Level) string {
	switch {
	case level < slog.LevelInfo:
		return "<7>"
	case level < slog.LevelWarn:
		return "<6>"
	case level < slog.LevelError:
		return "<4>"
	}
	return "<3>"
}

// prioritized makes "<6>msg=..." of a line "level=<6> msg=...".
type prioritized struct{ io.Writer }

func (p prioritized) Write(line []byte) (int, error) {
	priority, rest, _ := bytes.Cut(bytes.TrimPrefix(line, []byte("level=")), []byte(" "))
	_, err := p.Writer.Write(slices.Concat(priority, rest))
	return len(line), err
}
