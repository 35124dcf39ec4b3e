package updateengine

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/locksmithd/locksmith/systemd"
	"github.com/locksmithd/locksmith/test/bustest"
	"github.com/locksmithd/locksmith/test/contains"
	"github.com/locksmithd/locksmith/test/must"
)

func TestMain(m *testing.M) {
	bustest.RunStranger()
	os.Exit(m.Run())
}

// patience bounds what takes milliseconds when it works.
const patience = 20 * time.Second

// journal is a log that can be read while it is written.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// expect waits for a line that contains all the parts.
func (j *journal) expect(t *testing.T, parts ...string) {
	t.Helper()
	defer func() {
		if t.Failed() {
			t.Logf("the log:\n%s", j)
		}
	}()
	must.Eventually(t, patience, fmt.Sprintf("a line of the log with %q", parts), func() bool {
		return contains.Lines(j.String(), parts...) > 0
	})
}

// host is one machine's bus with a client on it.
type host struct {
	t      *testing.T
	bus    *bustest.Bus
	conn   *dbus.Conn
	log    *journal
	client *Client
}

func newHost(t *testing.T, trust Trust) *host {
	t.Helper()
	bus := bustest.For(t).Bus(bustest.System)
	h := &host{t: t, bus: bus, log: &journal{}}
	h.conn = h.connect()
	logger := slog.New(slog.NewTextHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	h.client = New(h.conn, logger, trust)
	return h
}

// connect connects as both programs do.
func (h *host) connect() *dbus.Conn {
	h.t.Helper()
	h.t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", h.bus.Address())
	conn, err := systemd.ConnectSystemBus(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { conn.Close() })
	return conn
}

func (h *host) watch() *events {
	h.t.Helper()
	ch, err := h.client.Watch(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	return &events{h, ch}
}

type events struct {
	*host
	ch <-chan Event
}

// next returns the next event.
func (e *events) next() Event {
	e.t.Helper()
	select {
	case event, ok := <-e.ch:
		if !ok {
			e.t.Fatal("the channel of events is closed")
		}
		return event
	case <-time.After(patience):
		e.t.Fatalf("no event comes; the log:\n%s", e.log)
	}
	panic("unreachable")
}

// expect requires the next event to be this one.
func (e *events) expect(source Source, operation string) Event {
	e.t.Helper()
	got := e.next()
	if got.Source != source || got.Status.Operation != operation {
		e.t.Fatalf("got %+v, want %s from %s; the log:\n%s", got, operation, source, e.log)
	}
	return got
}

// closed waits for the end of the channel, and skips events before it.
func (e *events) closed() {
	e.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case _, ok := <-e.ch:
			if !ok {
				return
			}
		case <-deadline:
			e.t.Fatal("the channel of events stays open")
		}
	}
}

// Other operations that update_engine reports.
const (
	Idle                = "UPDATE_STATUS_IDLE"
	CheckingForUpdate   = "UPDATE_STATUS_CHECKING_FOR_UPDATE"
	UpdateAvailable     = "UPDATE_STATUS_UPDATE_AVAILABLE"
	Downloading         = "UPDATE_STATUS_DOWNLOADING"
	Verifying           = "UPDATE_STATUS_VERIFYING"
	Finalizing          = "UPDATE_STATUS_FINALIZING"
	ReportingErrorEvent = "UPDATE_STATUS_REPORTING_ERROR_EVENT"
)

var (
	needReboot = bustest.Status{LastChecked: 1, Progress: 1, Operation: NeedReboot, NewVersion: "1.2.3", NewSize: 4}
	idle       = bustest.Status{Operation: Idle}
)

// userDatabase makes a root with these lines in its files.
func userDatabase(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		must.Do(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must.Do(t, os.WriteFile(path, []byte(content), 0o600))
	}
	return root
}
