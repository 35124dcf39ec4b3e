package etcdtest

import (
	"fmt"
	"net"
	"sync"
	"time"
)

// Proxy carries the bytes between clients and one server, as the network does,
// and has the faults of one. It listens on the server's IP address, so that the
// server's certificate is good for it, and keeps its own port for good.
//
// There is one fault at a time: Pass, Refuse and BlackHole each replace the last,
// for connections that exist and for new ones. A Proxy is safe for concurrent
// use.
type Proxy struct {
	scheme, address, target string

	wg sync.WaitGroup // of every goroutine

	mu       sync.Mutex
	listener net.Listener // nil while refusing
	links    map[*link]struct{}
	accepted int
	hole     chan struct{} // closed when the black hole ends; nil without one
}

// link is a client's connection and its continuation to the server.
type link struct {
	client net.Conn
	done   chan struct{}

	// Guarded by Proxy.mu.
	server net.Conn // nil until dialled
	closed bool
}

// NewProxy puts a proxy in front of s. Close ends it.
func NewProxy(s *Server) (*Proxy, error) {
	l, err := listen(hostOf(s.address))
	if err != nil {
		return nil, fmt.Errorf("start proxy: %w", err)
	}
	p := &Proxy{
		scheme:  s.scheme(),
		address: l.Addr().String(),
		target:  s.address,
		links:   map[*link]struct{}{},
	}
	p.serve(l)
	return p, nil
}

// Endpoint is the URL for clients.
func (p *Proxy) Endpoint() string { return p.scheme + p.address }

// Connections is the number of clients' connections that are open now.
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.links)
}

// Accepted is the number of clients' connections that were ever made.
func (p *Proxy) Accepted() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.accepted
}

// Pass ends the fault: what was held goes on its way. The error is that of
// listening again after Refuse.
func (p *Proxy) Pass() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.endHole()
	return p.listen()
}

// BlackHole accepts connections and carries nothing, not even their end.
// Clients see a silent server. As with a real network that comes back, what is
// on its way arrives at the next Pass.
func (p *Proxy) BlackHole() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hole == nil {
		p.hole = make(chan struct{})
	}
	return p.listen()
}

// Refuse cuts every connection and refuses new ones.
func (p *Proxy) Refuse() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.endHole()
	if p.listener != nil {
		_ = p.listener.Close()
		p.listener = nil
	}
	p.cutAll()
}

// Cut closes every connection that is open now, with what is held in it. New
// ones meet the same fault as before.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cutAll()
}

// Close ends the proxy for good.
func (p *Proxy) Close() {
	p.Refuse()
	p.wg.Wait()
}

// endHole is called with p.mu held.
func (p *Proxy) endHole() {
	if p.hole != nil {
		close(p.hole)
		p.hole = nil
	}
}

// listen listens if need be. It is called with p.mu held.
func (p *Proxy) listen() error {
	if p.listener != nil {
		return nil
	}
	l, err := net.Listen("tcp", p.address)
	if err != nil {
		return fmt.Errorf("listen again: %w", err)
	}
	p.serve(l)
	return nil
}

// cutAll is called with p.mu held.
func (p *Proxy) cutAll() {
	for l := range p.links {
		p.cut(l)
	}
}

// cut is called with p.mu held.
func (p *Proxy) cut(l *link) {
	if l.closed {
		return
	}
	l.closed = true
	close(l.done)
	_ = l.client.Close()
	if l.server != nil {
		_ = l.server.Close()
	}
	delete(p.links, l)
}

// serve is called with p.mu held, or before anybody else knows p.
func (p *Proxy) serve(listener net.Listener) {
	p.listener = listener
	p.wg.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return // closed by Refuse
			}
			l := &link{client: client, done: make(chan struct{})}
			p.mu.Lock()
			if p.listener != listener { // refused in between
				p.mu.Unlock()
				_ = client.Close()
				return
			}
			p.accepted++
			p.links[l] = struct{}{}
			p.mu.Unlock()
			p.wg.Go(func() { p.carry(l) })
		}
	})
}

// carry connects l with the server and moves bytes until either side ends.
func (p *Proxy) carry(l *link) {
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.cut(l)
	}()
	// A server that is down must not show through a black hole.
	if !p.await(l) {
		return
	}
	server, err := net.DialTimeout("tcp", p.target, 5*time.Second)
	if err != nil {
		return
	}
	p.mu.Lock()
	if l.closed {
		p.mu.Unlock()
		_ = server.Close()
		return
	}
	l.server = server
	p.mu.Unlock()

	ended := make(chan struct{}, 2)
	p.wg.Go(func() {
		p.pump(l, server, l.client)
		ended <- struct{}{}
	})
	p.wg.Go(func() {
		p.pump(l, l.client, server)
		ended <- struct{}{}
	})
	<-ended
}

// pump moves bytes in one direction until the source ends or l is cut.
func (p *Proxy) pump(l *link, dst, src net.Conn) {
	buf := make([]byte, 64<<10)
	for {
		n, readErr := src.Read(buf)
		if !p.await(l) {
			return
		}
		if _, err := dst.Write(buf[:n]); err != nil || readErr != nil {
			return
		}
	}
}

// await waits for the end of a black hole; it is false when l is cut first.
func (p *Proxy) await(l *link) bool {
	for {
		p.mu.Lock()
		hole, closed := p.hole, l.closed
		p.mu.Unlock()
		if closed || hole == nil {
			return !closed
		}
		select {
		case <-hole:
		case <-l.done:
		}
	}
}
