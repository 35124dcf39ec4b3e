package listen

import (
	stdlog "log"
	"log/slog"
	"strings"

	"github.com/locksmithd/locksmith/internal/origin"
	"github.com/locksmithd/locksmith/internal/safetext"
	"github.com/locksmithd/locksmith/internal/sparse"
)

// maxError is how much of an error of net/http is logged, in bytes.
const maxError = 1 << 10

// ErrorLog returns what an http.Server logs its errors to. Most of them are about what clients do wrong, and so there
// are few lines, see package sparse: one an hour for each origin whose TLS handshakes fail for the same reason.
func ErrorLog(log *slog.Logger) *stdlog.Logger { return stdlog.New(&errorLog{log: log}, "", 0) }

type errorLog struct {
	log   *slog.Logger
	lines sparse.Lines
}

// Write implements io.Writer for the lines of net/http.
func (e *errorLog) Write(line []byte) (int, error) {
	text := strings.TrimSpace(string(line))
	if rest, ok := strings.CutPrefix(text, "http: TLS handshake error from "); ok {
		address, why, _ := strings.Cut(rest, ": ")
		if from := origin.Of(address); e.lines.Allow(from + " " + why) {
			e.log.Warn("a TLS handshake has failed", "address", from, "error", safetext.Cut(why, maxError))
		}
	} else if e.lines.Allow(text) {
		e.log.Warn("the HTTP server has failed", "error", safetext.Cut(text, maxError))
	}
	return len(line), nil
}
