package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"
)

// toJournal tells whether standard error goes to the journal, see
// $JOURNAL_STREAM in systemd.exec(5).
func toJournal(environ []string) bool {
	return slices.ContainsFunc(environ, func(e string) bool { return strings.HasPrefix(e, "JOURNAL_STREAM=") })
}

// newLogger returns a logger that writes lines to w. Where w goes to the
// journal a line begins with its priority, as sd-daemon(3) describes, so that
// journalctl -p works, and has no time, because the journal adds that. Elsewhere the time
// is in the zone that zone returns.
func newLogger(w io.Writer, level slog.Leveler, zone func() *time.Location, environ []string) *slog.Logger {
	o := &slog.HandlerOptions{Level: level}
	if !toJournal(environ) {
		o.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey {
				a.Value = slog.TimeValue(a.Value.Time().In(zone()))
			}
			return a
		}
		return slog.New(slog.NewTextHandler(w, o))
	}
	o.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey) {
			return slog.Attr{}
		}
		return a
	}
	at := func(priority string) slog.Handler { return slog.NewTextHandler(prefixed{w, priority}, o) }
	return slog.New(journal{debug: at("<7>"), info: at("<6>"), warn: at("<4>"), err: at("<3>")})
}

// journal passes each record to the handler of its level.
type journal struct{ debug, info, warn, err slog.Handler }

func (j journal) of(level slog.Level) slog.Handler {
	switch {
	case level >= slog.LevelError:
		return j.err
	case level >= slog.LevelWarn:
		return j.warn
	case level >= slog.LevelInfo:
		return j.info
	}
	return j.debug
}

func (j journal) Enabled(ctx context.Context, level slog.Level) bool {
	return j.of(level).Enabled(ctx, level)
}

func (j journal) Handle(ctx context.Context, r slog.Record) error {
	return j.of(r.Level).Handle(ctx, r)
}

func (j journal) WithAttrs(attrs []slog.Attr) slog.Handler {
	return journal{j.debug.WithAttrs(attrs), j.info.WithAttrs(attrs), j.warn.WithAttrs(attrs), j.err.WithAttrs(attrs)}
}

func (j journal) WithGroup(name string) slog.Handler {
	return journal{j.debug.WithGroup(name), j.info.WithGroup(name), j.warn.WithGroup(name), j.err.WithGroup(name)}
}

// announce logs a message as an emergency, which the journal shows on the terminals of all
// who are logged in, see ForwardToWall= in journald.conf(5). That needs no privilege, no
// device and no other program, and nobody's terminal holds this process up.
func announce(w io.Writer, environ []string, message string) error {
	line := message + "\n"
	if toJournal(environ) {
		line = "<0>" + line
	}
	if _, err := io.WriteString(w, line); err != nil {
		return fmt.Errorf("tell the users who are logged in: %w", err)
	}
	return nil
}

// prefixed puts a prefix before each write; a slog handler writes a line at a
// time, and one at a time.
type prefixed struct {
	w      io.Writer
	prefix string
}

func (p prefixed) Write(line []byte) (int, error) {
	n, err := p.w.Write(append([]byte(p.prefix), line...))
	return max(0, n-len(p.prefix)), err
}
