package journal

import (
	"errors"
	"io"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// pieceSize is how much of a line is written at once, in bytes: a pipe or a socket that is ready has room for it.
const pieceSize = 4 << 10

// errUnread is why a line was not written.
var errUnread = errors.New("journald does not read")

// fallback is standard error that is the journal's stream, for lines that the socket does not take. A journald that does
// not read it delays the program once, for sendTimeout, until it reads again: meanwhile lines are lost.
type fallback struct {
	w io.Writer

	mu   sync.Mutex
	busy bool // the last piece was not taken in time
	torn bool // the last line was not written to its end
}

// write writes a line, which ends in a newline.
func (s *fallback) write(line string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.torn {
		line = "\n" + line
	}
	for len(line) > 0 {
		if err := s.await(); err != nil {
			return err
		}
		n, err := io.WriteString(s.w, line[:min(len(line), pieceSize)])
		if n > 0 {
			s.torn = line[n-1] != '\n'
		}
		if err != nil {
			return err
		}
		line = line[n:]
	}
	return nil
}

// await waits until the stream takes a piece.
func (s *fallback) await() error {
	file, ok := s.w.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	timeout := sendTimeout
	if s.busy {
		timeout = 0
	}
	ready := false
	err = raw.Control(func(fd uintptr) { ready = writable(int32(fd), timeout) })
	s.busy = err == nil && !ready
	if s.busy {
		err = errUnread
	}
	return err
}

// writable waits until a file takes something, or fails, and reports whether it does.
func writable(fd int32, timeout time.Duration) bool {
	for end := time.Now().Add(timeout); ; {
		left := max(0, time.Until(end))
		n, err := unix.Poll([]unix.PollFd{{Fd: fd, Events: unix.POLLOUT}}, int(left.Milliseconds()))
		if err != unix.EINTR {
			return err != nil || n > 0 // after an error the write says what is wrong
		}
	}
}
