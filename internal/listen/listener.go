package listen

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

const (
	// writeTime is how long a peer may take nothing of what it is sent.
	writeTime = 10 * time.Second
	// perAddress is how much of all connections one address may have: a part of so many. Many hosts may have one address,
	// behind a gateway or a proxy.
	perAddress = 4
)

// keepAlive notices within 25 seconds that the other end is gone. (A client that waits for its slot sends nothing.)
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3}

// Local reports whether only programs of this host can connect to an address.
func Local(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return !ok || tcp.IP.IsLoopback()
}

// Open listens on a TCP address.
func Open(ctx context.Context, address string) (net.Listener, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err == nil {
		return l, nil
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		err = op.Err
	}
	return nil, fmt.Errorf("listen on %s: %w", address, err)
}

// Limit bounds the connections of several listeners.
type Limit struct {
	all        chan struct{} // holds a token for each connection
	perAddress int

	mu    sync.Mutex
	count map[string]int // by address
}

// NewLimit returns a limit of n connections.
func NewLimit(n int) *Limit {
	return &Limit{all: make(chan struct{}, n), perAddress: max(1, n/perAddress), count: map[string]int{}}
}

// Listener returns l with this limit. When there are as many connections as there may be in all, more have to wait; when
// an address has as many as it may have, more from there are closed.
func (limit *Limit) Listener(l net.Listener) net.Listener {
	return &listener{Listener: l, limit: limit, closed: make(chan struct{})}
}

type listener struct {
	net.Listener
	limit  *Limit
	once   sync.Once
	closed chan struct{}
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case l.limit.all <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			<-l.limit.all
			return nil, err
		}
		address := hostOf(c.RemoteAddr())
		if !l.limit.enter(address) {
			_ = c.Close()
			continue
		}
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetKeepAliveConfig(keepAlive)
		}
		return &conn{Conn: c, leave: sync.OnceFunc(func() { l.limit.leave(address); <-l.limit.all })}, nil
	}
}

// Close implements net.Listener.
func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// hostOf returns an address without the port.
func hostOf(a net.Addr) string {
	if host, _, err := net.SplitHostPort(a.String()); err == nil {
		return host
	}
	return a.String()
}

// enter reports whether an address may have one more connection.
func (limit *Limit) enter(address string) bool {
	limit.mu.Lock()
	defer limit.mu.Unlock()
	if limit.count[address] >= limit.perAddress {
		return false
	}
	limit.count[address]++
	return true
}

func (limit *Limit) leave(address string) {
	limit.mu.Lock()
	defer limit.mu.Unlock()
	if limit.count[address]--; limit.count[address] == 0 {
		delete(limit.count, address)
	}
}

// conn is a connection that counts.
type conn struct {
	net.Conn
	leave func()
}

// Write implements net.Conn. A peer that sends requests and reads no answers does not keep its connection.
func (c *conn) Write(data []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
		return 0, err
	}
	return c.Conn.Write(data)
}

// Close implements net.Conn.
func (c *conn) Close() error {
	defer c.leave()
	return c.Conn.Close()
}
