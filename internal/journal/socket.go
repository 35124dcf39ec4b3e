package journal

import (
	"encoding/binary"
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// sendTimeout is how long journald may take to make room for an entry, in which it reads hundreds.
const sendTimeout = 200 * time.Millisecond

// socket is that of journald's native protocol, see https://systemd.io/JOURNAL_NATIVE_PROTOCOL/.
//
// (Package journal of go-systemd, which knows the protocol, too, has no limit for the time that a full socket takes:
// the runtime waits until the program's own socket is writable, which it is.)
type socket struct {
	path string

	mu     sync.Mutex
	opened bool
	fd     int  // once opened
	busy   bool // journald has made no room in time: until it has, nothing waits for it
}

// send sends an entry. It is not connected, so that it finds a journald that has opened its socket again.
func (s *socket) send(entry []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.opened {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		limit := unix.NsecToTimeval(sendTimeout.Nanoseconds())
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit); err != nil {
			return errors.Join(err, unix.Close(fd))
		}
		s.fd, s.opened = fd, true
	}
	flags := unix.MSG_NOSIGNAL
	if s.busy {
		flags |= unix.MSG_DONTWAIT
	}
	for {
		err := unix.Sendto(s.fd, entry, flags, &unix.SockaddrUnix{Name: s.path})
		if err == unix.EINTR {
			continue
		}
		s.busy = err == unix.EAGAIN
		return err
	}
}

const (
	flushTimeout = 5 * time.Second
	flushEvery   = time.Millisecond
)

// flush waits until journald has read all entries, for a limited time.
func (s *socket) flush() {
	s.mu.Lock()
	opened, fd := s.opened, s.fd
	s.mu.Unlock()
	for end := time.Now().Add(flushTimeout); opened && time.Now().Before(end); <-time.After(flushEvery) {
		if unread, err := unix.IoctlGetInt(fd, unix.SIOCOUTQ); err != nil || unread == 0 {
			return
		}
	}
}

// entry returns a line as an entry of the journal, with the fields that a line of the stream would have.
func (s Stderr) entry(priority int, text string, f Facts) (entry []byte) {
	const daemon = 3 // the facility, see SyslogFacility= in systemd.exec(5)
	entry = appendField(entry, "MESSAGE", text)
	entry = appendField(entry, "PRIORITY", strconv.Itoa(priority))
	entry = appendField(entry, "SYSLOG_FACILITY", strconv.Itoa(daemon))
	entry = appendField(entry, "SYSLOG_IDENTIFIER", s.program)
	for _, field := range f.fields() {
		entry = appendField(entry, field.name, field.value)
	}
	return entry
}

// appendField appends a field. A value with a newline needs its length before it.
func appendField(entry []byte, name, value string) []byte {
	entry = append(entry, name...)
	if strings.Contains(value, "\n") {
		entry = append(entry, '\n')
		entry = binary.LittleEndian.AppendUint64(entry, uint64(len(value)))
	} else {
		entry = append(entry, '=')
	}
	entry = append(entry, value...)
	return append(entry, '\n')
}
