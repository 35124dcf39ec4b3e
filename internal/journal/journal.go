// Package journal writes what a program says to standard error.
//
// Where that is the journal's stream, each line becomes an entry of the journal, sent by its native protocol, so that
// it can have fields: see [Facts]. The text is the same as on the stream. All lines go this way, and not only those
// with fields: journald reads its two sockets in no particular order, and lines that take turns would change places.
// Anywhere else lines are text or JSON.
//
// Guaranteed:
//   - a line that journald does not take goes to standard error, after its priority as in sd-daemon(3);
//   - a journald that does not read delays the program once, for sendTimeout on each of both ways, until it reads again;
//     how many lines were lost is said then;
//   - journalctl -u shows the last lines of a program that calls Flush in the end;
//   - there is no goroutine and no timer.
//
// Not guaranteed: that lines keep their order while journald takes only some of them, that standard error does not block
// where it is not the journal's stream, and that journalctl -u shows the last lines of a program that is killed.
package journal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
	"unicode/utf8"
)

// socketPath is where journald receives entries.
const socketPath = "/run/systemd/journal/socket"

// Stderr is standard error of a program.
type Stderr struct {
	program string
	w       io.Writer // nil if standard error is the journal's stream
	journal *journald // nil if it is not
}

// journald is the ways to the journal.
type journald struct {
	socket   socket
	fallback fallback
	lost     atomic.Int64 // lines that neither way has taken, until somebody is told
}

// New returns the standard error of a program with this name and environment.
func New(w io.Writer, program string, environ []string) Stderr {
	if isJournal(w, environ) {
		return Stderr{program: program, journal: &journald{socket: socket{path: socketPath}, fallback: fallback{w: w}}}
	}
	return Stderr{program: program, w: w}
}

// Below says that the journal's socket is below root, "" for "/". It comes before the first line.
func (s Stderr) Below(root string) {
	if s.journal != nil {
		s.journal.socket.path = filepath.Join("/", root, socketPath)
	}
}

// Flush waits for journald to read what was sent, for flushTimeout at most, and comes before the end of the program.
// journald reads in /proc to which unit a program belongs, so that journalctl -u does not show what it reads too late.
func (s Stderr) Flush() {
	if s.journal != nil {
		s.journal.socket.flush()
	}
}

// isJournal reports whether w is the stream that $JOURNAL_STREAM names, see systemd.exec(5).
func isJournal(w io.Writer, environ []string) bool {
	file, ok := w.(interface{ Stat() (fs.FileInfo, error) })
	if !ok {
		return false
	}
	info, err := file.Stat()
	if err != nil {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && slices.Contains(environ, fmt.Sprintf("JOURNAL_STREAM=%d:%d", stat.Dev, stat.Ino))
}

// Error writes an error that nothing but its text explains, a line after another. In the journal each has the message
// ID, unless that is "".
func (s Stderr) Error(id MessageID, err error) {
	for line := range strings.Lines(err.Error()) {
		line = strings.TrimSpace(line)
		text := line
		if s.journal == nil {
			text = s.program + ": " + line
		}
		_ = s.write(priority(slog.LevelError), text+"\n", Facts{ID: id, Reason: line}) // there is nobody left to tell
	}
}

// emergency is the level of what all users have to know.
const emergency slog.Level = 16

// Announce writes a message as an emergency, which the journal shows on the terminals of all users who are logged
// in, see ForwardToWall= in journald.conf(5). That needs no privilege, no device and no other program, and no
// terminal can block this process.
func Announce(log *slog.Logger, message string) error {
	if err := log.Handler().Handle(context.Background(), slog.NewRecord(time.Now(), emergency, message, 0)); err != nil {
		return fmt.Errorf("tell the users who are logged in: %w", err)
	}
	return nil
}

// priority returns the priority of lines of a level, see sd-daemon(3).
func priority(level slog.Level) int {
	switch {
	case level < slog.LevelInfo:
		return 7
	case level < slog.LevelWarn:
		return 6
	case level < slog.LevelError:
		return 4
	case level < emergency:
		return 3
	}
	return 0
}

// maxMessage is where journald splits a long line of a stream, in bytes, see LineMax= in journald.conf(5).
const maxMessage = 48 << 10

// write writes a line, which ends in a newline. f is for the journal alone.
func (s Stderr) write(priority int, line string, f Facts) error {
	if s.journal == nil {
		_, err := io.WriteString(s.w, line)
		return err
	}
	if err := s.send(priority, line, f); err != nil {
		s.journal.lost.Add(1)
		return err
	}
	s.tellLost()
	return nil
}

// send sends a line to the journal, by either way.
func (s Stderr) send(priority int, line string, f Facts) error {
	for text := strings.TrimSpace(line); text != ""; {
		part := text[:cut(text, maxMessage)]
		if err := s.journal.socket.send(s.entry(priority, part, f)); err != nil {
			if failure := s.journal.fallback.write(fmt.Sprintf("<%d>%s\n", priority, text)); failure != nil {
				return errors.Join(failure, err)
			}
			return nil
		}
		text = text[len(part):]
	}
	return nil
}

// tellLost says how many lines were lost. If nobody hears that, the next line tells it.
func (s Stderr) tellLost() {
	lost := s.journal.lost.Swap(0)
	if lost == 0 {
		return
	}
	missing := "1 line of " + s.program + " is missing"
	if lost > 1 {
		missing = fmt.Sprintf("%d lines of %s are missing", lost, s.program)
	}
	if s.send(priority(slog.LevelWarn), "journald did not read: "+missing+" before this one", Facts{}) != nil {
		s.journal.lost.Add(lost)
	}
}

// cut returns at which byte to cut a text of more than most bytes: not within a character.
func cut(text string, most int) int {
	if len(text) <= most {
		return len(text)
	}
	for at := most; at > most-utf8.UTFMax; at-- {
		if utf8.RuneStart(text[at]) {
			return at
		}
	}
	return most
}
