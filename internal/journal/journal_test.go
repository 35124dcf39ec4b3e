package journal

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/locksmithd/locksmith/test/must"
)

var zone = func() *time.Location { return time.FixedZone("", 3*60*60) }

// transition is what a line about a transition is about.
var transition = Facts{ID: EnteredWaiting, State: "waiting", From: "idle", Version: "4081.2.0", Reason: "an update"}

// write writes a line of every kind.
func write(t *testing.T, stderr Stderr, asJSON bool) {
	t.Helper()
	stderr.Error(ConfigRefused, errors.Join(errors.New("this is wrong"), errors.New("so is that")))
	level := new(slog.LevelVar)
	log := stderr.Logger(Options{Level: level, Zone: zone, JSON: func() bool { return asJSON }})
	log.Debug("not shown")
	level.Set(slog.LevelDebug)
	log.Debug("shown now")
	log.Info("waiting", "from", "idle", transition.Attr())
	log.With("a", 1).Warn("take care", "for", time.Minute)
	log.WithGroup("g").Error("it failed", "time", "of an attribute")
	must.Do(t, Announce(log, "System reboot in 5 minutes!"))
}

// stream is standard error that is a stream of the journal, whose other end the test reads.
type stream struct {
	t      *testing.T
	root   string
	stderr Stderr
	w, r   *os.File
}

// newStream returns a stream of a program in a root of its own, where there is no socket yet.
func newStream(t *testing.T) *stream {
	t.Helper()
	root, err := os.MkdirTemp("", "journal") // with a short path: it is part of a socket's
	must.Do(t, err)
	t.Cleanup(func() { must.Do(t, os.RemoveAll(root)) })
	r, w, err := os.Pipe()
	must.Do(t, err)
	t.Cleanup(func() { r.Close(); w.Close() })
	info, err := w.Stat()
	must.Do(t, err)
	stat := info.Sys().(*syscall.Stat_t)
	environ := []string{"PATH=/bin", fmt.Sprintf("JOURNAL_STREAM=%d:%d", stat.Dev, stat.Ino)}
	stderr := New(w, "program", environ)
	stderr.Below(root)
	return &stream{t, root, stderr, w, r}
}

// read ends the stream and returns what was written to it.
func (s *stream) read() string {
	s.t.Helper()
	must.Do(s.t, s.w.Close())
	text, err := io.ReadAll(s.r)
	must.Do(s.t, err)
	return string(text)
}

// listen opens the journal's socket.
func (s *stream) listen() *net.UnixConn {
	s.t.Helper()
	path := filepath.Join(s.root, socketPath)
	must.Do(s.t, os.MkdirAll(filepath.Dir(path), 0o755))
	must.Do(s.t, os.RemoveAll(path)) // left by an earlier one
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	must.Do(s.t, err)
	s.t.Cleanup(func() { conn.Close() })
	return conn
}

// receive returns the entries that have been sent so far, as fields.
func receive(t *testing.T, conn *net.UnixConn) (entries []map[string]string) {
	t.Helper()
	buffer := make([]byte, 1<<20)
	raw, err := conn.SyscallConn()
	must.Do(t, err)
	must.Do(t, raw.Read(func(fd uintptr) bool {
		for {
			n, _, err := syscall.Recvfrom(int(fd), buffer, syscall.MSG_DONTWAIT)
			if err != nil {
				return true
			}
			entries = append(entries, parse(t, buffer[:n]))
		}
	}))
	return entries
}

// parse reads an entry of the native protocol.
func parse(t *testing.T, entry []byte) map[string]string {
	t.Helper()
	fields := map[string]string{}
	for len(entry) > 0 {
		head, rest, ok := bytes.Cut(entry, []byte("\n"))
		if !ok {
			t.Fatalf("%q does not end in a newline", entry)
		}
		name, value, ok := strings.Cut(string(head), "=")
		if !ok {
			size := binary.LittleEndian.Uint64(rest)
			value, rest = string(rest[8:8+size]), rest[8+size+1:]
		}
		if _, twice := fields[name]; twice {
			t.Errorf("%s is there twice", name)
		}
		fields[name], entry = value, rest
	}
	return fields
}

const onTheStream = `<3>this is wrong
<3>so is that
<7>msg="shown now"
<6>msg=waiting from=idle
<4>msg="take care" a=1 for=1m0s
<3>msg="it failed" g.time="of an attribute"
<0>System reboot in 5 minutes!
`

// Without journald's socket the lines are those that the stream always had.
func TestJournalGetsPrioritiesAndNoTimes(t *testing.T) {
	for _, asJSON := range []bool{false, true} {
		s := newStream(t)
		write(t, s.stderr, asJSON)
		if got := s.read(); got != onTheStream {
			t.Errorf("got:\n%s\nwant:\n%s", got, onTheStream)
		}
	}
}

// All lines go to the socket, in order, with the text and the priority that they have on the stream.
func TestEntriesHaveTheTextOfTheStreamAndFields(t *testing.T) {
	s := newStream(t)
	conn := s.listen()
	write(t, s.stderr, true)
	var lines strings.Builder
	var fields []map[string]string
	for _, entry := range receive(t, conn) {
		fmt.Fprintf(&lines, "<%s>%s\n", entry["PRIORITY"], entry["MESSAGE"])
		for name, want := range map[string]string{"SYSLOG_IDENTIFIER": "program", "SYSLOG_FACILITY": "3"} {
			if entry[name] != want {
				t.Errorf("%s is %q in %q", name, entry[name], entry)
			}
		}
		maps.DeleteFunc(entry, func(name, _ string) bool {
			return slices.Contains([]string{"PRIORITY", "MESSAGE", "SYSLOG_IDENTIFIER", "SYSLOG_FACILITY"}, name)
		})
		if len(entry) > 0 {
			fields = append(fields, entry)
		}
	}
	if lines.String() != onTheStream {
		t.Errorf("got:\n%s\nwant:\n%s", lines.String(), onTheStream)
	}
	want := []map[string]string{
		{"MESSAGE_ID": string(ConfigRefused), "LOCKSMITH_REASON": "this is wrong"},
		{"MESSAGE_ID": string(ConfigRefused), "LOCKSMITH_REASON": "so is that"},
		{
			"MESSAGE_ID": string(EnteredWaiting), "LOCKSMITH_STATE": "waiting", "LOCKSMITH_FROM": "idle", "LOCKSMITH_GROUP": "",
			"LOCKSMITH_VERSION": "4081.2.0", "LOCKSMITH_REASON": "an update",
		},
	}
	if !slices.EqualFunc(fields, want, maps.Equal[map[string]string, map[string]string]) {
		t.Errorf("the fields are %q", fields)
	}
	if rest := s.read(); rest != "" {
		t.Errorf("on the stream is also %q", rest)
	}
}

// A variable that is inherited says nothing of another file, such as one that StandardError= names.
func TestOtherFilesAreNotTheJournal(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "log"))
	must.Do(t, err)
	defer file.Close()
	var b bytes.Buffer
	for _, w := range []io.Writer{file, &b} {
		New(w, "program", []string{"JOURNAL_STREAM=8:1234"}).Error("", errors.New("it is wrong"))
	}
	text, err := os.ReadFile(file.Name())
	must.Do(t, err)
	if want := "program: it is wrong\n"; string(text) != want || b.String() != want {
		t.Errorf("the file has %q, the buffer %q", text, b.String())
	}
}

func TestPeopleGetTimesInTheirZone(t *testing.T) {
	want := regexp.MustCompile(`^program: this is wrong
program: so is that
time=\S+\+03:00 level=DEBUG msg="shown now"
time=\S+\+03:00 level=INFO msg=waiting from=idle
time=\S+\+03:00 level=WARN msg="take care" a=1 for=1m0s
time=\S+\+03:00 level=ERROR msg="it failed" g.time="of an attribute"
System reboot in 5 minutes!
$`)
	var b bytes.Buffer
	write(t, New(&b, "program", []string{"PATH=/bin"}), false)
	if got := b.String(); !want.MatchString(got) {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestJSONHasTheFactsOfTheJournal(t *testing.T) {
	var b bytes.Buffer
	write(t, New(&b, "program", nil), true)
	want := regexp.MustCompile(`^program: this is wrong
program: so is that
\{"time":"\S+\+03:00","level":"DEBUG","msg":"shown now"\}
\{"time":"\S+\+03:00","level":"INFO","msg":"waiting","from":"idle","MESSAGE_ID":"` + string(EnteredWaiting) + `",` +
		`"LOCKSMITH_STATE":"waiting","LOCKSMITH_FROM":"idle","LOCKSMITH_GROUP":"","LOCKSMITH_VERSION":"4081.2.0","LOCKSMITH_REASON":"an update"\}
\{"time":"\S+\+03:00","level":"WARN","msg":"take care","a":1,"for":"1m0s"\}
\{"time":"\S+\+03:00","level":"ERROR","msg":"it failed","g":\{"time":"of an attribute"\}\}
\{"time":"\S+\+03:00","level":"EMERGENCY","msg":"System reboot in 5 minutes!"\}
$`)
	if got := b.String(); !want.MatchString(got) {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// hostile is what somebody may call a version.
var hostile = "1\n__REALTIME_TIMESTAMP=0\nMESSAGE=all is well\x00\x1b[2J\u202e\u009b\xff" + strings.Repeat("9", 1<<20)

func TestHostileFactsAreCleanedAndCut(t *testing.T) {
	facts := transition
	facts.Version, facts.Reason, facts.Group = hostile, hostile, hostile
	s := newStream(t)
	conn := s.listen()
	s.stderr.Logger(Options{Level: slog.LevelInfo, Zone: zone}).Info("waiting", facts.Attr())
	entries := receive(t, conn)
	if len(entries) != 1 || entries[0]["MESSAGE"] != "msg=waiting" || len(entries[0]) != 10 {
		t.Fatalf("entries %.5000q", entries)
	}
	var b bytes.Buffer
	New(&b, "program", nil).Logger(Options{Level: slog.LevelInfo, Zone: zone, JSON: func() bool { return true }}).Info("waiting", facts.Attr())
	var object map[string]string
	must.Do(t, json.Unmarshal(b.Bytes(), &object))
	for name, fields := range map[string]map[string]string{"journal": entries[0], "JSON": object} {
		for _, field := range []string{"LOCKSMITH_VERSION", "LOCKSMITH_REASON", "LOCKSMITH_GROUP"} {
			value := fields[field]
			if !strings.HasPrefix(value, `1\n__REALTIME_TIMESTAMP=0\nMESSAGE=all is well\x00\x1b[2J\u202e\u009b\xff999`) || len(value) > maxField+10 {
				t.Errorf("%s of %s has %d bytes: %.100q", field, name, len(value), value)
			}
		}
	}
}

// No terminal acts upon a line, and JSON stays one line and valid.
func TestHostileTextIsEscaped(t *testing.T) {
	var b bytes.Buffer
	New(&b, "program", nil).Logger(Options{Level: slog.LevelInfo, Zone: zone, JSON: func() bool { return true }}).Warn("x", "error", errors.New(hostile[:80]))
	var object map[string]string
	must.Do(t, json.Unmarshal(b.Bytes(), &object))
	if want := strings.ToValidUTF8(hostile[:80], "\ufffd"); object["error"] != want {
		t.Errorf("the error is %q, want %q", object["error"], want)
	}
	if line := strings.TrimSuffix(b.String(), "\n"); strings.ContainsAny(line, "\n\x00\x1b\u202e\u009b") {
		t.Errorf("the line is %q", line)
	}
}

// A line of any length arrives, in pieces as journald makes of a long line of a stream.
func TestLongLinesArriveWhole(t *testing.T) {
	s := newStream(t)
	conn := s.listen()
	long := strings.Repeat("äö€", 20000)
	s.stderr.Error(ConfigRefused, errors.New(long))
	whole := ""
	for _, entry := range receive(t, conn) {
		whole += entry["MESSAGE"]
		if len(entry["MESSAGE"]) > maxMessage || entry["MESSAGE_ID"] != string(ConfigRefused) || !strings.HasPrefix(entry["LOCKSMITH_REASON"], "äö€") {
			t.Errorf("an entry has %d bytes and %.200q", len(entry["MESSAGE"]), entry)
		}
		if strings.ToValidUTF8(entry["MESSAGE"], "?") != entry["MESSAGE"] {
			t.Error("an entry ends within a character")
		}
	}
	if whole != long {
		t.Errorf("%d of %d bytes have arrived", len(whole), len(long))
	}
}

// A line that journald does not take goes to the stream, and the next one to journald again.
func TestNoLineIsLostWhileJournaldDoesNotRead(t *testing.T) {
	s := newStream(t)
	conn := s.listen()
	log := s.stderr.Logger(Options{Level: slog.LevelInfo, Zone: zone})
	var lines []string
	go func() { // what does not fit into a socket, and fits into a pipe
		defer s.w.Close()
		for n := range 1000 {
			log.Info("line", "n", n)
		}
	}()
	rest, err := io.ReadAll(s.r)
	must.Do(t, err)
	for _, entry := range receive(t, conn) {
		lines = append(lines, entry["MESSAGE"])
	}
	sent := len(lines)
	for line := range strings.Lines(string(rest)) {
		lines = append(lines, strings.TrimPrefix(strings.TrimSpace(line), "<6>"))
	}
	if sent == 0 || sent == 1000 {
		t.Fatalf("%d lines went to the socket", sent)
	}
	for n, line := range lines {
		if line != fmt.Sprintf("msg=line n=%d", n) {
			t.Fatalf("line %d is %q", n, line)
		}
	}
	if len(lines) != 1000 {
		t.Errorf("%d lines have arrived", len(lines))
	}
	log.Info("it reads again")
	if entries := receive(t, conn); len(entries) != 1 || entries[0]["MESSAGE"] != `msg="it reads again"` {
		t.Errorf("the socket has %q", entries)
	}
}

// A journald that hangs reads neither its socket nor the stream.
func TestJournaldThatReadsNothingDoesNotStopTheProgram(t *testing.T) {
	for _, socket := range []bool{true, false} {
		s := newStream(t)
		var conn *net.UnixConn
		if socket {
			conn = s.listen()
		}
		log := s.stderr.Logger(Options{Level: slog.LevelInfo, Zone: zone})
		const lines = 5000 // what fits into neither
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for n := range lines {
				log.Info("line", "n", n, "with", strings.Repeat("x", n%10000))
			}
		}()
		must.Receive(t, time.Minute, "the end of the lines", ended)
		if err := Announce(log, "System reboot in 5 minutes!"); !errors.Is(err, errUnread) {
			t.Errorf("the announcement that was not read: %v", err)
		}
		var arrived int
		if socket {
			arrived = len(receive(t, conn))
		} else {
			conn = s.listen()
		}
		log.Info("it reads again")
		log.Info("nothing is missing")
		entries := receive(t, conn)
		arrived += strings.Count(s.read(), "msg=line")
		if len(entries) != 3 || entries[0]["MESSAGE"] != `msg="it reads again"` || entries[2]["MESSAGE"] != `msg="nothing is missing"` {
			t.Fatalf("afterwards the socket has %.500q", entries)
		}
		want := fmt.Sprintf("journald did not read: %d lines of program are missing before this one", lines+1-arrived)
		if got := entries[1]["MESSAGE"]; got != want || entries[1]["PRIORITY"] != "4" {
			t.Errorf("the loss is said as %q, want %q", entries[1], want)
		}
	}
}

// A line that was cut off does not swallow the next one, and the loss is told where lines arrive again.
func TestTornLineEndsBeforeTheNext(t *testing.T) {
	s := newStream(t)
	log := s.stderr.Logger(Options{Level: slog.LevelInfo, Zone: zone})
	size, err := unix.FcntlInt(s.w.Fd(), unix.F_GETPIPE_SZ, 0)
	must.Do(t, err)
	log.Info(strings.Repeat("x", 2*size))
	s.stderr.tellLost() // which nobody hears, and which is no line that is lost
	_, err = io.ReadFull(s.r, make([]byte, size))
	must.Do(t, err)
	log.Info("next")
	want := "\n<6>msg=next\n<4>journald did not read: 1 line of program is missing before this one\n"
	if got := s.read(); got != want {
		t.Errorf("after the torn line comes %q, want %q", got, want)
	}
}

// Journald opens its socket again when that is restarted.
func TestRestartedSocketIsFound(t *testing.T) {
	s := newStream(t)
	log := s.stderr.Logger(Options{Level: slog.LevelInfo, Zone: zone})
	must.Do(t, s.listen().Close())
	log.Info("between")
	conn := s.listen()
	log.Info("after")
	if entries := receive(t, conn); len(entries) != 1 || entries[0]["MESSAGE"] != "msg=after" {
		t.Errorf("the socket has %q", entries)
	}
	if got := s.read(); got != "<6>msg=between\n" {
		t.Errorf("the stream has %q", got)
	}
}

// A program may end once journald has read what it has sent.
func TestFlushWaitsForJournald(t *testing.T) {
	s := newStream(t)
	s.stderr.Flush() // nothing
	conn := s.listen()
	for range 200 {
		s.stderr.Error("", errors.New("the last line"))
		read := make(chan bool)
		go func() { receive(t, conn); close(read) }()
		s.stderr.Flush()
		unread, err := unix.IoctlGetInt(s.stderr.journal.socket.fd, unix.SIOCOUTQ)
		if must.Do(t, err); unread > 0 {
			t.Fatalf("%d bytes are not read", unread)
		}
		<-read
	}
}

// broken is a standard error that is closed.
type broken struct{}

var errBroken = errors.New("broken pipe")

func (broken) Write([]byte) (int, error) { return 0, errBroken }

func TestAnnouncementThatIsLostIsAnError(t *testing.T) {
	log := New(broken{}, "program", nil).Logger(Options{Level: slog.LevelInfo, Zone: zone})
	if err := Announce(log, "x"); !errors.Is(err, errBroken) {
		t.Errorf("the error is %v", err)
	}
	s := newStream(t)
	must.Do(t, s.w.Close())
	if err := Announce(s.stderr.Logger(Options{Level: slog.LevelInfo, Zone: zone}), "x"); err == nil {
		t.Error("no error from a closed stream without a socket")
	}
}
