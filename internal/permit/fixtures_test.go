package permit_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmithd/locksmith/internal/fleetclient"
	hosts "github.com/locksmithd/locksmith/internal/host"
	"github.com/locksmithd/locksmith/internal/permit"
	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/test/fleetlocktest"
	"github.com/locksmithd/locksmith/test/must"
)

const (
	machineID = "1c09ca98649c4c7abc779cd04c96812e"
	appID     = "978a225b3d7b40e9acd7ce9b62f68444" // that Zincati makes of it
)

// host is a simulated host with a server in fake time.
type host struct {
	t      *testing.T
	root   string
	server *fleetlocktest.Server
	net    *fleetlocktest.Pipe
	down   func() // stops the server
	log    bytes.Buffer
}

// in runs a test in fake time, with a host in its first boot and a server with one slot.
func in(t *testing.T, test func(*testing.T, *host)) {
	t.Helper()
	root := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		h := &host{t: t, root: root, server: fleetlocktest.New(1), net: &fleetlocktest.Pipe{}}
		h.write("etc/machine-id", machineID+"\n")
		h.write("etc/os-release", "VERSION_ID=1.0\n")
		h.boot("boot 1")
		h.up()
		t.Cleanup(func() { h.down() })
		test(t, h)
	})
}

func (h *host) up() { h.down = h.net.Serve(h.server) }

func (h *host) write(path, content string) {
	h.t.Helper()
	path = filepath.Join(h.root, path)
	must.Do(h.t, os.MkdirAll(filepath.Dir(path), 0o755))
	must.Do(h.t, os.WriteFile(path, []byte(content), 0o600))
}

func (h *host) path() string { return filepath.Join(h.root, permit.DefaultPath) }

func (h *host) boot(id string) { h.write("proc/sys/kernel/random/boot_id", id+"\n") }

func (h *host) thisBoot() hosts.Boot {
	h.t.Helper()
	boot, err := hosts.ThisBoot(h.t.Context(), h.root)
	must.Do(h.t, err)
	return boot
}

// start returns the slot of a new process.
func (h *host) start() *permit.Slot { return h.startAt("http://reboots.example/", "") }

func (h *host) startAt(url, group string) *permit.Slot {
	h.t.Helper()
	s, err := permit.New(permit.Config{Server: fleetclient.Config{URL: url}, Group: group}, h.root, h.thisBoot(), slog.New(slog.NewTextHandler(&h.log, nil)))
	must.Do(h.t, err)
	s.SetDial(h.net.Dial)
	return s
}

// remembered returns what the file says.
func (h *host) remembered() []permit.Memory {
	h.t.Helper()
	data, err := os.ReadFile(h.path())
	if os.IsNotExist(err) {
		return nil
	}
	var content struct{ Slots []permit.Memory }
	must.Do(h.t, err)
	must.Do(h.t, json.Unmarshal(data, &content))
	return content.Slots
}

// state returns what the file says of the slot of start.
func (h *host) state() permit.State {
	h.t.Helper()
	for _, m := range h.remembered() {
		if m.URL == "http://reboots.example/" && m.Group == "default" && m.ID == appID {
			return m.Slot
		}
	}
	return permit.Unknown
}

// memory is what the file says of the slot of start.
func memory(slot permit.State, boot string) permit.Memory {
	return permit.Memory{Config: fleetclient.Config{URL: "http://reboots.example/"}, Group: "default", ID: appID, BootID: boot, Slot: slot}
}

// remembers writes the file.
func (h *host) remembers(all ...permit.Memory) {
	h.t.Helper()
	data, err := json.Marshal(map[string]any{"slots": all})
	must.Do(h.t, err)
	h.write(permit.DefaultPath, string(data))
}

func (h *host) wantState(want permit.State) {
	h.t.Helper()
	if got := h.state(); got != want {
		h.t.Errorf("the file says %q, want %q", got, want)
	}
}

func (h *host) wantHolders(want ...string) {
	h.t.Helper()
	if got := h.server.Holders(); !slices.Equal(got, want) {
		h.t.Errorf("slots are held by %q, want %q", got, want)
	}
}

// wantCalls expects the requests since the last time, such as "pre-reboot".
func (h *host) wantCalls(want ...string) {
	h.t.Helper()
	var got []string
	for _, call := range h.server.Calls() {
		got = append(got, strings.Fields(call)[0])
	}
	if !slices.Equal(got, want) {
		h.t.Errorf("the server got %q, want %q", got, want)
	}
}

func (h *host) wantInspect(s *permit.Slot, want policy.Holding) policy.Purpose {
	h.t.Helper()
	got, purpose, err := s.Inspect(h.t.Context())
	if got != want || err != nil {
		h.t.Errorf("Inspect says %v, %v, want %v", got, err, want)
	}
	return purpose
}

func (h *host) wantStillHeld(s *permit.Slot, want bool) {
	h.t.Helper()
	if got, err := s.StillHeld(h.t.Context()); got != want || err != nil {
		h.t.Errorf("StillHeld says %v, %v, want %v", got, err, want)
	}
}

func (h *host) wantLog(text string) {
	h.t.Helper()
	if !strings.Contains(h.log.String(), text) {
		h.t.Errorf("the log does not have %q:\n%s", text, h.log.String())
	}
}

var update = policy.Lock{Version: "2.0", NewOS: true}

func quiet(string) {}

// acquire takes a slot that is free.
func (h *host) acquire(s *permit.Slot) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), time.Hour)
	defer cancel()
	must.Do(h.t, s.Acquire(ctx, update, quiet))
}

// waiting is an Acquire in progress.
type waiting struct {
	stop  context.CancelFunc
	says  chan string
	ended chan error
}

func (h *host) wait(s *permit.Slot) waiting {
	ctx, cancel := context.WithCancel(h.t.Context())
	w := waiting{cancel, make(chan string, 10_000), make(chan error, 1)}
	go func() { w.ended <- s.Acquire(ctx, update, func(by string) { w.says <- by }) }()
	synctest.Wait()
	return w
}

// after lets time pass.
func after(d time.Duration) { time.Sleep(d); synctest.Wait() }
