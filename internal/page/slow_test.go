package page

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmithd/locksmith/internal/fleet"
	"github.com/locksmithd/locksmith/internal/grant"
	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/storetest"
)

// pipes is a listener for connections in memory, which have no buffers.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func (p pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}
func (p pipes) Close() error   { close(p.done); return nil }
func (p pipes) Addr() net.Addr { return &net.UnixAddr{} }

// A reader of events that reads no more, or is gone, does not keep its place.
func TestSlowReaderOfEventsIsDropped(t *testing.T) {
	for name, stop := range map[string]func(net.Conn){
		"reads no more": func(net.Conn) {},
		"is gone":       func(c net.Conn) { _ = c.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				memory := storetest.NewMemory()
				cache := fleet.NewCache(memory, func() []fleet.Source { return []fleet.Source{{Max: 1}} }, 1)
				defer cache.Stop()
				server := &http.Server{Handler: New(Options{
					Fleet: cache, Groups: func() map[string]grant.Group { return map[string]grant.Group{"default": {Max: 1}} }, Log: slog.New(slog.DiscardHandler),
				})}
				listener := pipes{make(chan net.Conn), make(chan struct{})}
				go func() { _ = server.Serve(listener) }()
				defer server.Close()
				here, there := net.Pipe()
				defer here.Close()
				listener.conns <- there
				_, err := fmt.Fprint(here, "GET /api/v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
				must.Do(t, err)
				for r := bufio.NewReader(here); ; {
					line, err := r.ReadString('\n')
					must.Do(t, err)
					if strings.HasPrefix(line, "data: ") {
						break
					}
				}
				if _, err := cache.Follow(); err != fleet.ErrFollowers {
					t.Fatalf("the reader has no place: %v", err)
				}
				stop(here)
				_, _, err = memory.Commit(context.Background(), nil, []lock.Op{{Key: lock.Root + "/fleet/a", Value: []byte("{}")}})
				must.Do(t, err)
				time.Sleep(writeTime + 2*time.Second)
				synctest.Wait()
				f, err := cache.Follow()
				if err != nil {
					t.Fatalf("the reader has kept its place: %v", err)
				}
				f.Close()
			})
		})
	}
}
