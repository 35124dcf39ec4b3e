package listen

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/locksmithd/locksmith/test/must"
)

const patience = 30 * time.Second

// limited is a listener with a limit, and what it has accepted.
func limited(t *testing.T, n int) (l net.Listener, accepted <-chan net.Conn) {
	t.Helper()
	inner, err := Open(t.Context(), "127.0.0.1:0")
	must.Do(t, err)
	l = NewLimit(n).Listener(inner)
	conns := make(chan net.Conn)
	go func() {
		defer close(conns)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns <- c
		}
	}()
	t.Cleanup(func() { l.Close() })
	return l, conns
}

// dial connects from an address.
func dial(t *testing.T, l net.Listener, from string) net.Conn {
	t.Helper()
	c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).DialContext(t.Context(), "tcp", l.Addr().String())
	must.Do(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// closed reports whether the other end has closed a connection, which it has to do, or to write to it.
func closed(t *testing.T, c net.Conn) bool {
	t.Helper()
	must.Do(t, c.SetReadDeadline(time.Now().Add(patience)))
	n, err := c.Read(make([]byte, 1))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal("the connection is neither closed nor used")
	}
	return n == 0
}

func TestAddressHasAQuarterOfTheConnections(t *testing.T) {
	l, accepted := limited(t, 8)
	greet := func() net.Conn {
		t.Helper()
		c := must.Receive(t, patience, "a connection", accepted)
		_, err := c.Write([]byte("x"))
		must.Do(t, err)
		return c
	}
	first := dial(t, l, "127.0.0.2")
	conn := greet()
	second := dial(t, l, "127.0.0.2")
	greet()
	if closed(t, first) || closed(t, second) {
		t.Error("a connection that is allowed is closed")
	}
	if !closed(t, dial(t, l, "127.0.0.2")) {
		t.Error("a third connection is not closed")
	}
	other := dial(t, l, "127.0.0.3")
	greet()
	if closed(t, other) {
		t.Error("a connection of another address is closed")
	}
	must.Do(t, conn.Close())
	_ = conn.Close() // it counts once
	again := dial(t, l, "127.0.0.2")
	greet()
	if closed(t, again) {
		t.Error("the address may not connect again")
	}
	if !closed(t, dial(t, l, "127.0.0.2")) {
		t.Error("one more connection is not closed")
	}
}

// An IPv6 network has what an IPv4 address has.
func TestNetworkHasAQuarterOfTheConnections(t *testing.T) {
	limit := NewLimit(8)
	l := limit.Listener(&addresses{"[2001:db8::1]:1", "[2001:db8::2]:1", "[2001:db8::3]:1", "[2001:db8:0:1::1]:1"})
	for _, want := range []string{"[2001:db8::1]:1", "[2001:db8::2]:1", "[2001:db8:0:1::1]:1"} {
		if c, err := l.Accept(); err != nil || c.RemoteAddr().String() != want {
			t.Errorf("accepted is %v, %v, want %s", c, err, want)
		}
	}
}

// addresses is a listener that accepts a connection from each of them.
type addresses []string

func (a *addresses) Accept() (net.Conn, error) {
	from := (*a)[0]
	*a = (*a)[1:]
	_, there := net.Pipe()
	return sender{there, from}, nil
}

func (a *addresses) Close() error   { return nil }
func (a *addresses) Addr() net.Addr { return nil }

type sender struct {
	net.Conn
	from string
}

func (f sender) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(f.from))
}

func TestConnectionsInAllAreBounded(t *testing.T) {
	l, accepted := limited(t, 4)
	var conns []net.Conn
	for _, from := range []string{"127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"} {
		dial(t, l, from)
		conns = append(conns, must.Receive(t, patience, "a connection", accepted))
	}
	dial(t, l, "127.0.0.6")
	if n := len(l.(*listener).limit.all); n != 4 {
		t.Errorf("%d connections are open", n)
	}
	must.Do(t, conns[0].Close())
	must.Receive(t, patience, "the connection that waited", accepted)
	must.Do(t, l.Close()) // also where there are as many as there may be
	if c, open := <-accepted; open {
		t.Errorf("%v is accepted", c.RemoteAddr())
	}
}

// The peer takes nothing.
func TestWriteIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, client := net.Pipe()
		defer client.Close()
		c := &conn{Conn: server, leave: func() {}}
		begin := time.Now()
		if _, err := c.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begin) != writeTime {
			t.Errorf("after %v: %v", time.Since(begin), err)
		}
	})
}

// The peer takes a long answer slowly, but goes on.
func TestLongAnswerGoesToASlowPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, client := net.Pipe()
		c := &conn{Conn: server, leave: func() {}}
		taken := make(chan int64, 1)
		go func() {
			defer client.Close()
			n := int64(0)
			for n < 64<<10 {
				time.Sleep(time.Second)
				more, err := io.CopyN(io.Discard, client, 1<<10)
				if n += more; err != nil {
					break
				}
			}
			taken <- n
		}()
		if n, err := c.Write(make([]byte, 64<<10)); err != nil || n != 64<<10 {
			t.Errorf("%d bytes are written: %v", n, err)
		}
		server.Close()
		if n := <-taken; n != 64<<10 {
			t.Errorf("the peer got %d bytes", n)
		}
	})
}

func TestPeersThatAreGoneAreNoticed(t *testing.T) {
	l, accepted := limited(t, 8)
	dial(t, l, "127.0.0.2")
	c, ok := must.Receive(t, patience, "a connection", accepted).(*conn).Conn.(*net.TCPConn)
	if !ok {
		t.Fatal("it is not a TCP connection")
	}
	raw, err := c.SyscallConn()
	must.Do(t, err)
	must.Do(t, raw.Control(func(fd uintptr) {
		for option, want := range map[int]int{unix.TCP_KEEPIDLE: 10, unix.TCP_KEEPINTVL: 5, unix.TCP_KEEPCNT: 3} {
			if got, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, option); err != nil || got != want {
				t.Errorf("option %d is %d, %v, want %d", option, got, err, want)
			}
		}
	}))
}

func TestLocal(t *testing.T) {
	for address, want := range map[string]bool{"127.0.0.1": true, "127.1.2.3": true, "::1": true, "0.0.0.0": false, "::": false, "10.0.0.1": false} {
		if got := Local(&net.TCPAddr{IP: net.ParseIP(address)}); got != want {
			t.Errorf("%s: %v", address, got)
		}
	}
	if !Local(&net.UnixAddr{Name: "/run/x", Net: "unix"}) {
		t.Error("a path is not local")
	}
}
