package journal

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Options say how a logger writes. Each is asked for every line.
type Options struct {
	Level slog.Leveler
	Zone  func() *time.Location // of times
	JSON  func() bool           // lines that do not go to the journal are JSON; nil: they are text
}

// Logger returns a logger that writes lines. Facts have to be among the attributes of the line itself.
func (s Stderr) Logger(o Options) *slog.Logger {
	l := new(line)
	replace := func(groups []string, a slog.Attr) slog.Attr {
		switch a.Value.Kind() {
		case slog.KindTime:
			switch {
			case len(groups) > 0 || a.Key != slog.TimeKey:
			case s.journal != nil:
				return slog.Attr{}
			default:
				a.Value = slog.TimeValue(a.Value.Time().In(o.Zone()))
			}
		case slog.KindAny:
			switch value := a.Value.Any().(type) {
			case slog.Level:
				switch {
				case len(groups) > 0 || a.Key != slog.LevelKey:
				case s.journal != nil:
					return slog.Attr{}
				case value >= emergency:
					a.Value = slog.StringValue("EMERGENCY")
				}
			case fmt.Stringer: // JSON has what text has
				a.Value = slog.StringValue(fmt.Sprintf("%+v", value))
			}
		case slog.KindDuration:
			a.Value = slog.StringValue(a.Value.Duration().String())
		}
		return a
	}
	handling := &slog.HandlerOptions{Level: o.Level, ReplaceAttr: replace}
	h := &handler{stderr: s, line: l, text: slog.NewTextHandler(&l.Buffer, handling)}
	if o.JSON != nil && s.journal == nil {
		h.asJSON, h.json = o.JSON, slog.NewJSONHandler(&l.Buffer, handling)
	}
	return slog.New(h)
}

// line is what is being written.
type line struct {
	sync.Mutex
	bytes.Buffer
}

// maxLine is the most memory that stays in use for lines, in bytes.
const maxLine = 16 << 10

// handler writes one line after another.
type handler struct {
	stderr Stderr
	line   *line
	text   slog.Handler // to line
	json   slog.Handler // to line; nil: there is no JSON
	asJSON func() bool  // nil: see json
}

func (h *handler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.text.Enabled(ctx, level)
}

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return h.with(func(inner slog.Handler) slog.Handler { return inner.WithAttrs(attrs) })
}

func (h *handler) WithGroup(name string) slog.Handler {
	return h.with(func(inner slog.Handler) slog.Handler { return inner.WithGroup(name) })
}

func (h *handler) with(change func(slog.Handler) slog.Handler) *handler {
	changed := *h
	changed.text = change(h.text)
	if h.json != nil {
		changed.json = change(h.json)
	}
	return &changed
}

func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	r, facts := takeFacts(r)
	h.line.Lock()
	defer h.line.Unlock()
	defer func() {
		if h.line.Cap() > maxLine {
			h.line.Buffer = bytes.Buffer{}
		}
	}()
	h.line.Reset()
	switch {
	case h.json != nil && h.asJSON():
		for _, f := range facts.fields() {
			r.AddAttrs(slog.String(f.name, f.value))
		}
		if err := h.json.Handle(ctx, r); err != nil {
			return err
		}
		return h.stderr.write(priority(r.Level), string(escapeJSON(h.line.Bytes())), facts)
	case r.Level >= emergency:
		h.line.WriteString(r.Message + "\n") // as people are to read it
	default:
		if err := h.text.Handle(ctx, r); err != nil {
			return err
		}
	}
	return h.stderr.write(priority(r.Level), h.line.String(), facts)
}

// escapeJSON escapes the characters in a JSON text that a terminal may act upon and encoding/json does not escape.
func escapeJSON(text []byte) (escaped []byte) {
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		if r == '\n' || unicode.IsPrint(r) {
			escaped = append(escaped, text[:size]...)
		} else {
			for _, unit := range utf16.AppendRune(nil, r) {
				escaped = fmt.Appendf(escaped, `\u%04x`, unit)
			}
		}
		text = text[size:]
	}
	return escaped
}
