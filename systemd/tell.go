package systemd

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"unicode"
)

// Tell writes message to the terminals of the sessions, once for each
// terminal. It never waits for a terminal: one that is stopped (^S) or not
// being read costs an error and nothing else. Sessions without a terminal are
// passed over. The errors of all terminals are joined and returned.
func Tell(ctx context.Context, sessions []Session, message string) error {
	text := []byte(terminalText(message))
	told := make(map[string]bool)
	var failed []error
	for _, s := range sessions {
		if s.TTY == "" || told[s.TTY] {
			continue
		}
		told[s.TTY] = true
		err := context.Cause(ctx)
		if err == nil {
			err = writeTerminal(s.TTY, text)
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("tell user %q on terminal %q: %w", s.User, s.TTY, err))
		}
	}
	return errors.Join(failed...)
}

// terminalText sets the message off from what the user is typing, and keeps
// anything but text away from the terminal.
func terminalText(message string) string {
	var b strings.Builder
	b.WriteString("\r\n")
	for line := range strings.Lines(message) {
		for _, r := range strings.TrimRight(line, "\r\n") {
			if !unicode.IsPrint(r) {
				r = '?'
			}
			b.WriteRune(r)
		}
		b.WriteString("\r\n")
	}
	return b.String()
}

// writeTerminal makes raw system calls, because an os.File would wait in the
// runtime's poller when the terminal takes nothing.
func writeTerminal(tty string, text []byte) (err error) {
	if !filepath.IsLocal(tty) || filepath.Clean(tty) != tty {
		return errors.New("not the name of a terminal below /dev")
	}
	// O_NONBLOCK: neither a carrier nor a reader is waited for. O_NOCTTY: the
	// terminal must not become this process's own, its hangup would end us.
	fd, err := syscall.Open(filepath.Join("/dev", tty),
		syscall.O_WRONLY|syscall.O_NOCTTY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer syscall.Close(fd)
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil {
		return fmt.Errorf("stat: %w", err)
	}
	if st.Mode&syscall.S_IFMT != syscall.S_IFCHR {
		return errors.New("not a character device")
	}
	n, err := syscall.Write(fd, text)
	switch {
	case errors.Is(err, syscall.EAGAIN):
		return errors.New("the terminal is stopped or nobody reads it")
	case err != nil:
		return fmt.Errorf("write: %w", err)
	case n < len(text):
		return fmt.Errorf("the terminal took %d of %d bytes", n, len(text))
	}
	return nil
}
