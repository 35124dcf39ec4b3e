package etcdtest

import (
	"fmt"
	"net"
	"sync"
	"time"
)

// Proxy carries bytes between clients and one server, with the faults of a network. It listens on the server's IP
// address, so that the server's certificate is valid for it, and always keeps its port.
//
// There is one fault at a time: Pass, Refuse, BlackHole, HoldRequests, DropReplies and Delay each replace the last
// one, for existing and for new connections. A connection that has lost bytes cannot be repaired: it is cut when
// the fault ends. A Proxy is safe for concurrent use.
type Proxy struct {
	scheme, address, target string

	wg sync.WaitGroup // all goroutines

	mu       sync.Mutex
	listener net.Listener // nil while refusing
	links    map[*link]struct{}
	accepted int
	fault    fault
	changed  chan struct{} // closed and replaced with every change of fault
}

// fault says what happens to bytes on their way to the server and to the client.
type fault struct{ toServer, toClient passage }

// passage says what happens to bytes in one direction.
type passage struct {
	flow  flow
	delay time.Duration
}

type flow int

const (
	pass flow = iota
	hold      // until the fault changes
	drop      // discarded
)

// link is a client's connection with its continuation to the server.
type link struct {
	client net.Conn
	done   chan struct{}

	// Guarded by Proxy.mu.
	server net.Conn // nil until dialled
	lost   bool     // bytes were dropped
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
		changed: make(chan struct{}),
	}
	p.serve(l)
	return p, nil
}

// Endpoint returns the URL for clients.
func (p *Proxy) Endpoint() string { return p.scheme + p.address }

// Connections returns the number of clients' connections that are open now.
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.links)
}

// Accepted returns the number of clients' connections so far.
func (p *Proxy) Accepted() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.accepted
}

// Pass ends the fault and carries on what was held. Its error is that of listening again after Refuse.
func (p *Proxy) Pass() error { return p.enter(fault{}) }

// BlackHole accepts connections and carries nothing, not even their end: clients see a silent server. As with a
// real network that comes back, the next Pass delivers what was sent.
func (p *Proxy) BlackHole() error {
	return p.enter(fault{toServer: passage{flow: hold}, toClient: passage{flow: hold}})
}

// HoldRequests holds what clients send, and carries what the server sends. The next Pass delivers it late and in
// order, even if the client has gone.
func (p *Proxy) HoldRequests() error {
	return p.enter(fault{toServer: passage{flow: hold}})
}

// DropReplies carries what clients send and discards what the server sends: requests take effect, and no client
// gets to know it.
func (p *Proxy) DropReplies() error {
	return p.enter(fault{toClient: passage{flow: drop}})
}

// Delay carries everything, each piece at least so much later.
func (p *Proxy) Delay(toServer, toClient time.Duration) error {
	return p.enter(fault{toServer: passage{delay: toServer}, toClient: passage{delay: toClient}})
}

// Refuse cuts every connection and refuses new ones.
func (p *Proxy) Refuse() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.change(fault{})
	if p.listener != nil {
		_ = p.listener.Close()
		p.listener = nil
	}
	p.cutAll()
}

// Cut closes every connection that is open now, and drops what it holds. New connections meet the same fault as
// before.
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

// enter makes f the fault, and listens again if necessary.
func (p *Proxy) enter(f fault) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.change(f)
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

// change sets the fault and cuts the connections that have lost bytes; p.mu is held.
func (p *Proxy) change(f fault) {
	p.fault = f
	close(p.changed)
	p.changed = make(chan struct{})
	for l := range p.links {
		if l.lost {
			p.cut(l)
		}
	}
}

// cutAll cuts every connection; p.mu is held.
func (p *Proxy) cutAll() {
	for l := range p.links {
		p.cut(l)
	}
}

// cut closes both sides of a connection; p.mu is held.
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

// serve accepts connections. p.mu is held, or p is not shared yet.
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
	// A black hole must hide that the server is down.
	if _, ok := p.await(l, toServer); !ok {
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
		p.pump(l, server, l.client, toServer)
		ended <- struct{}{}
	})
	p.wg.Go(func() {
		p.pump(l, l.client, server, toClient)
		ended <- struct{}{}
	})
	<-ended
}

// toServer and toClient choose a direction of a fault.
func toServer(f fault) passage { return f.toServer }
func toClient(f fault) passage { return f.toClient }

// pump moves bytes in one direction until the source ends or l is cut.
func (p *Proxy) pump(l *link, dst, src net.Conn, direction func(fault) passage) {
	buf := make([]byte, 64<<10)
	for {
		n, readErr := src.Read(buf)
		// The fault at the time when the bytes, or the end, arrive applies.
		now, ok := p.await(l, direction)
		switch {
		case !ok:
			return
		case now.flow == drop && readErr != nil:
			<-l.done // the end is discarded too
			return
		case now.flow == drop:
			continue
		}
		if now.delay > 0 {
			timer := time.NewTimer(now.delay)
			select {
			case <-timer.C:
			case <-l.done:
				timer.Stop()
				return
			}
		}
		if _, err := dst.Write(buf[:n]); err != nil || readErr != nil {
			return
		}
	}
}

// await returns the passage in a direction as soon as it is not held; false if l is cut first.
func (p *Proxy) await(l *link, direction func(fault) passage) (passage, bool) {
	for {
		p.mu.Lock()
		now, changed := direction(p.fault), p.changed
		if l.closed {
			p.mu.Unlock()
			return passage{}, false
		}
		if now.flow == drop {
			l.lost = true
		}
		p.mu.Unlock()
		if now.flow != hold {
			return now, true
		}
		select {
		case <-changed:
		case <-l.done:
			return passage{}, false
		}
	}
}
