package updateengine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/locksmithd/locksmith/test/bustest"
	"github.com/locksmithd/locksmith/test/must"
)

func TestSendNeedRebootIsBelieved(t *testing.T) {
	h := newHost(t, Trust{})
	bustest.For(t).Engine(h.bus)
	e := h.watch()
	e.expect(Engine, Idle)
	// The event arrives while the command is still on the bus.
	conn := h.connect()
	ctx, cancel := context.WithCancelCause(t.Context())
	emitted := make(chan error, 1)
	go func() { emitted <- EmitNeedReboot(ctx, conn) }()
	got := e.expect(Requester, NeedReboot)
	if want := (Status{Operation: NeedReboot}); got.Status != want {
		t.Errorf("got %+v, want %+v", got.Status, want)
	}
	if !strings.Contains(got.By, fmt.Sprintf("(uid %d)", os.Getuid())) || !strings.Contains(got.By, fmt.Sprintf("(pid %d)", os.Getpid())) {
		t.Errorf("by %s, want uid %d and pid %d", got.By, os.Getuid(), os.Getpid())
	}
	gone := errors.New("interrupted")
	cancel(gone)
	if err := <-emitted; !errors.Is(err, gone) {
		t.Errorf("interrupted: %v", err)
	}
	if err := EmitNeedReboot(t.Context(), conn); err != nil {
		t.Errorf("not interrupted: %v", err)
	}
	e.expect(Requester, NeedReboot)
}

// The bus goes away before or after it confirms that it has taken the signal.
func TestSendNeedRebootToABusThatGoesAway(t *testing.T) {
	for name, answers := range map[string]bool{"without an answer": false, "after its answer": true} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, Trust{})
			raw, err := net.Dial("unix", strings.TrimPrefix(h.bus.Address(), "unix:path="))
			must.Do(t, err)
			asked := make(chan struct{})
			conn, err := dbus.NewConn(&tapped{raw, []byte("GetId"), sync.OnceFunc(func() { close(asked) })})
			must.Do(t, err)
			t.Cleanup(func() { conn.Close() })
			must.Do(t, conn.Auth(nil))
			must.Do(t, conn.Hello())
			if !answers {
				must.Do(t, h.bus.Pause())
			}
			emitted := make(chan error, 1)
			go func() { emitted <- EmitNeedReboot(t.Context(), conn) }()
			select {
			case <-asked:
			case err := <-emitted:
				t.Fatalf("ended before it has asked the bus: %v", err)
			}
			if answers { // the bus answers in order: after this answer it has given the one to GetId as well
				must.Do(t, conn.BusObject().Call("org.freedesktop.DBus.GetId", 0).Err)
			}
			must.Do(t, h.bus.Kill()) // as at a reboot
			want := "may have taken it"
			if answers {
				want = "the bus took it"
			}
			if err := <-emitted; errors.Is(err, ErrBusGone) != answers || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v", err)
			}
			<-conn.Context().Done()
			if err := EmitNeedReboot(t.Context(), conn); err == nil || errors.Is(err, ErrBusGone) {
				t.Errorf("without a bus: %v", err)
			}
		})
	}
}

// tapped is a connection that calls written when text is written to it.
type tapped struct {
	net.Conn
	text    []byte
	written func()
}

func (c *tapped) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if bytes.Contains(p, c.text) {
		c.written()
	}
	return n, err
}
