package listen

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/locksmithd/locksmith/internal/origin"
)

const (
	// writeTime is how long a peer may take nothing of what it is sent.
	writeTime = 10 * time.Second
	// One origin may have 1/perOrigin of all connections. Many hosts may have one address, behind a gateway or a proxy.
	perOrigin = 4
	// pieceSize is how much is written at once, in bytes: what a slow peer takes within writeTime.
	pieceSize = 4 << 10
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
	all       chan struct{} // holds a token for each connection
	perOrigin int
	closed    atomic.Uint64

	mu    sync.Mutex
	count map[string]int // by origin
}

// NewLimit returns a limit of n connections.
func NewLimit(n int) *Limit {
	return &Limit{all: make(chan struct{}, n), perOrigin: max(1, n/perOrigin), count: map[string]int{}}
}

// Open returns how many connections there are.
func (limit *Limit) Open() int { return len(limit.all) }

// Most returns how many connections there may be.
func (limit *Limit) Most() int { return cap(limit.all) }

// Refused returns how many connections were closed because their origin had as many as it may have.
func (limit *Limit) Refused() uint64 { return limit.closed.Load() }

// Listener returns l with this limit. When there are as many connections as there may be in all, more have to wait;
// when an origin, see package origin, has as many as it may have, more from there are closed.
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
		from := origin.Of(c.RemoteAddr().String())
		if !l.limit.enter(from) {
			l.limit.closed.Add(1)
			_ = c.Close()
			continue
		}
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetKeepAliveConfig(keepAlive)
		}
		return &conn{Conn: c, leave: sync.OnceFunc(func() { l.limit.leave(from); <-l.limit.all })}, nil
	}
}

// Close implements net.Listener.
func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// enter reports whether an origin may have one more connection.
func (limit *Limit) enter(from string) bool {
	limit.mu.Lock()
	defer limit.mu.Unlock()
	if limit.count[from] >= limit.perOrigin {
		return false
	}
	limit.count[from]++
	return true
}

func (limit *Limit) leave(from string) {
	limit.mu.Lock()
	defer limit.mu.Unlock()
	if limit.count[from]--; limit.count[from] == 0 {
		delete(limit.count, from)
	}
}

// conn is a connection that counts towards a Limit.
type conn struct {
	net.Conn
	leave func()
}

// Write implements net.Conn. A peer that sends requests and reads no answers does not keep its connection.
func (c *conn) Write(data []byte) (int, error) {
	written := 0
	for {
		if err := c.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
			return written, err
		}
		n, err := c.Conn.Write(data[written:min(len(data), written+pieceSize)])
		if written += n; err != nil || written == len(data) {
			return written, err
		}
	}
}

// Close implements net.Conn.
func (c *conn) Close() error {
	defer c.leave()
	return c.Conn.Close()
}
