package fleetlock_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/fleetlock"
	"github.com/locksmithd/locksmith/test/must"
)

// patience is how long a test waits for what has to happen.
const patience = 30 * time.Second

// scripted is a server that answers by the id of the client, and notes its calls.
type scripted struct {
	mu    sync.Mutex
	calls []string
	logs  []string
}

func (s *scripted) PreReboot(ctx context.Context, caller fleetlock.Caller, p fleetlock.Params) error {
	return s.call("pre-reboot", caller, p)
}

func (s *scripted) SteadyState(ctx context.Context, caller fleetlock.Caller, p fleetlock.Params) error {
	return s.call("steady-state", caller, p)
}

// call notes a call, and returns what the id asks for.
func (s *scripted) call(operation string, caller fleetlock.Caller, p fleetlock.Params) error {
	line := fmt.Sprintf("%s of %s in group %s", operation, p.ID, p.Group)
	if caller.User != "" || caller.Password != "" {
		line += fmt.Sprintf(", user %s, password %s", caller.User, caller.Password)
	}
	s.mu.Lock()
	s.calls = append(s.calls, line)
	s.mu.Unlock()
	switch p.ID {
	case "waiting":
		return fmt.Errorf("take a slot: %w", &fleetlock.Error{Kind: fleetlock.KindLockHeld, Value: "no slot is free: max is 1, held by web-1"})
	case "stranger":
		return &fleetlock.Error{Kind: fleetlock.KindUnauthorized, Value: "user and password are wrong"}
	case "own-code":
		return &fleetlock.Error{Kind: "teapot", Value: "short and\nstout", Status: 418}
	case "not-yet":
		return &fleetlock.Error{Kind: "waiting_for_node_drain", Value: "the node is being drained", Status: 202}
	case "no-code":
		return &fleetlock.Error{Kind: "teapot", Value: "short and stout"}
	case "no-words":
		return &fleetlock.Error{Status: 423}
	case "broken":
		return errors.New("etcd at 10.0.0.7 refuses the password hunter2")
	case "panics":
		panic("password hunter2")
	}
	return nil
}

// log notes what is logged.
func (s *scripted) log(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.logs = append(s.logs, err.Error())
}

// take returns the calls and the log since the last time.
func (s *scripted) take() (calls, logs []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	calls, logs = s.calls, s.logs
	s.calls, s.logs = nil, nil
	return calls, logs
}

// serve starts a server with the bounds that the package recommends, and returns its address.
func serve(t testing.TB, handler http.Handler) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must.Do(t, err)
	server := fleetlock.NewHTTPServer(handler)
	ended := make(chan error)
	go func() { ended <- server.Serve(listener) }()
	t.Cleanup(func() {
		_ = server.Close()
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("the server ended: %v", err)
		}
	})
	return listener.Addr().String()
}

// bounded returns a context that ends when a test has waited for too long.
func bounded(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}
