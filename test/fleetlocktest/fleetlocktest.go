// Package fleetlocktest is a FleetLock server for tests: it keeps slots in memory behind the real handler, and
// misbehaves as it is told to.
package fleetlocktest

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/locksmithd/locksmith/fleetlock"
)

// Fault is how a server answers in place of what the protocol wants. It gets the real handler, to answer with, or not.
type Fault func(w http.ResponseWriter, r *http.Request, handler http.Handler)

// Server has slots, which all groups share. It is safe for concurrent use.
type Server struct {
	mu      sync.Mutex
	max     int
	hold    time.Duration
	holders []string
	calls   []string
	users   []string // who has sent the calls
	refusal *fleetlock.Error
	fault   Fault
	changed chan struct{}
}

// New returns a server with so many slots.
func New(max int) *Server { return &Server{max: max, changed: make(chan struct{})} }

// Start serves on a port of this machine until the end of the test. It returns the base URL.
func (s *Server) Start(t interface{ Cleanup(func()) }) string {
	server := httptest.NewServer(s)
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	return server.URL + "/"
}

// ServeHTTP answers a request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var handler http.Handler = &fleetlock.Handler{Server: s}
	s.mu.Lock()
	fault := s.fault
	s.mu.Unlock()
	if fault != nil {
		fault(w, r, handler)
		return
	}
	handler.ServeHTTP(w, r)
}

// change changes the server, and wakes who waits for that.
func (s *Server) change(do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	do()
	s.wake()
}

// wake wakes who waits for a change; s.mu is held.
func (s *Server) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Changed returns a channel that is closed at the next change.
func (s *Server) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// PreReboot takes a slot. While none is free it waits for the time that Hold has set.
func (s *Server) PreReboot(ctx context.Context, caller fleetlock.Caller, p fleetlock.Params) error {
	s.note("pre-reboot", caller, p)
	s.mu.Lock()
	end := time.After(s.hold)
	s.mu.Unlock()
	for {
		changed, err := s.take(p.ID)
		if err == nil {
			return nil
		}
		select {
		case <-changed:
		case <-end:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// take gives a slot to a host if one is free. With an error it returns what is closed at the next change.
func (s *Server) take(id string) (changed <-chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.refusal != nil:
		return s.changed, s.refusal
	case slices.Contains(s.holders, id):
		return nil, nil
	case len(s.holders) >= s.max:
		return s.changed, &fleetlock.Error{Kind: fleetlock.KindLockHeld, Value: fmt.Sprintf("no slot is free: max is %d, held by %s", s.max, strings.Join(s.holders, ", "))}
	}
	s.holders = append(s.holders, id)
	s.wake()
	return nil, nil
}

// SteadyState gives a slot back.
func (s *Server) SteadyState(_ context.Context, caller fleetlock.Caller, p fleetlock.Params) error {
	s.note("steady-state", caller, p)
	s.Free(p.ID)
	return nil
}

func (s *Server) note(operation string, caller fleetlock.Caller, p fleetlock.Params) {
	s.change(func() {
		s.calls = append(s.calls, fmt.Sprintf("%s %s %s", operation, p.Group, p.ID))
		s.users = append(s.users, caller.User+":"+caller.Password)
	})
}

// Take gives a slot to a host, whether one is free or not.
func (s *Server) Take(id string) { s.change(func() { s.holders = append(s.holders, id) }) }

// Free takes the slot of a host away.
func (s *Server) Free(id string) {
	s.change(func() { s.holders = slices.DeleteFunc(s.holders, func(h string) bool { return h == id }) })
}

// Refuse makes the server refuse slots with an error, nil for not any more. Who has one may give it back.
func (s *Server) Refuse(e *fleetlock.Error) { s.change(func() { s.refusal = e }) }

// Hold makes requests for a slot wait for one for so long.
func (s *Server) Hold(d time.Duration) { s.change(func() { s.hold = d }) }

// Break makes the server answer with a fault, nil for none.
func (s *Server) Break(f Fault) { s.change(func() { s.fault = f }) }

// Holders returns who has a slot, in the order in which they got it.
func (s *Server) Holders() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.holders)
}

// Calls returns the requests since the last time, such as "pre-reboot default 5f6a...".
func (s *Server) Calls() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	calls := s.calls
	s.calls = nil
	return calls
}

// Users returns user:password of all requests.
func (s *Server) Users() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.users)
}

// Raw is a fault: every answer is this code and body, with a type of content unless that is "".
func Raw(code int, contentType, body string) Fault {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		if contentType != "" {
			w.Header().Set("Content-Type", contentType)
		}
		if code >= 300 && code <= 399 {
			w.Header().Set("Location", "http://login.example/")
		}
		w.WriteHeader(code)
		_, _ = w.Write([]byte(body))
	}
}

// Lose is a fault: the requests to an operation, such as "pre-reboot", are carried out, and their answers are lost.
func Lose(operation string) Fault {
	return func(w http.ResponseWriter, r *http.Request, handler http.Handler) {
		if !strings.HasSuffix(r.URL.Path, operation) {
			handler.ServeHTTP(w, r)
			return
		}
		handler.ServeHTTP(httptest.NewRecorder(), r)
		Drop(w, r, handler)
	}
}

// Only limits a fault to an operation, such as "pre-reboot".
func Only(operation string, fault Fault) Fault {
	return func(w http.ResponseWriter, r *http.Request, handler http.Handler) {
		if strings.HasSuffix(r.URL.Path, operation) {
			fault(w, r, handler)
		} else {
			handler.ServeHTTP(w, r)
		}
	}
}

// Drop is a fault: connections end without an answer.
func Drop(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
	panic(http.ErrAbortHandler)
}

// Hang is a fault: there is no answer until the client gives up.
func Hang(_ http.ResponseWriter, r *http.Request, _ http.Handler) {
	_, _ = io.Copy(io.Discard, r.Body) // before that a server does not notice the client's end
	<-r.Context().Done()
}

// Pipe is a network without sockets, for tests in fake time. The zero one has no server, and refuses connections.
type Pipe struct {
	mu       sync.Mutex
	listener *listener
}

// Dial connects to the server, whatever the address is.
func (p *Pipe) Dial(ctx context.Context, _, address string) (net.Conn, error) {
	p.mu.Lock()
	l := p.listener
	p.mu.Unlock()
	refused := fmt.Errorf("dial %s: connection refused", address)
	if l == nil {
		return nil, refused
	}
	ours, theirs := net.Pipe()
	select {
	case l.conns <- theirs:
		return ours, nil
	case <-l.closed:
		return nil, refused
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Serve starts a server on the pipe. stop ends it, and all connections.
func (p *Pipe) Serve(handler http.Handler) (stop func()) {
	l := &listener{conns: make(chan net.Conn), closed: make(chan struct{})}
	p.mu.Lock()
	p.listener = l
	p.mu.Unlock()
	server := &http.Server{Handler: handler}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = server.Serve(l) }()
	return func() {
		p.mu.Lock()
		p.listener = nil
		p.mu.Unlock()
		_ = server.Close()
		<-ended
	}
}

type listener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *listener) Addr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }
