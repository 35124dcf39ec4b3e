package page

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
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

// unreader is a client that reads nothing of an answer until it is released.
type unreader struct {
	header   http.Header
	code     chan int
	released chan struct{}
}

func (u *unreader) Header() http.Header  { return u.header }
func (u *unreader) WriteHeader(code int) { u.code <- code }
func (u *unreader) Write(data []byte) (int, error) {
	<-u.released
	return len(data), nil
}

// Clients that read long answers slowly do not fill the memory, and do not keep others from the page.
func TestLongAnswersThatAreNotReadAreBounded(t *testing.T) {
	cache := fleet.NewCache(storetest.NewMemory(), func() []fleet.Source { return []fleet.Source{{Max: 1}} }, 1)
	defer cache.Stop()
	handler := New(Options{
		Fleet: cache, Groups: func() map[string]grant.Group { return map[string]grant.Group{"default": {Max: 1}} }, Log: slog.New(slog.DiscardHandler),
		Plan: func(fleet.Group, time.Time) Plan { return Plan{Document: strings.Repeat("x", 2*shortAnswer)} },
		Zone: func() *time.Location { return time.UTC },
	})
	handler.unread.mostOfOne, handler.unread.most = 8*shortAnswer, 32*shortAnswer
	released := make(chan struct{})
	var all sync.WaitGroup
	ask := func(from, path string) int {
		t.Helper()
		w := &unreader{http.Header{}, make(chan int, 1), released}
		r := httptest.NewRequest("GET", path, nil)
		r.RemoteAddr = from + ":1234"
		all.Go(func() { handler.ServeHTTP(w, r) })
		code := must.Receive(t, 30*time.Second, "the beginning of an answer", w.code)
		document := code == http.StatusOK && path != "/"
		if h := w.header; (h.Get("Last-Modified") != "") != document || (h.Get("X-Locksmith-Current") != "") != document {
			t.Errorf("%s for %s: %d with the headers %v", path, from, code, h)
		}
		return code
	}
	want := func(from, path string, code int) {
		t.Helper()
		if got := ask(from, path); got != code {
			t.Errorf("%s for %s: %d, want %d", path, from, got, code)
		}
	}
	const long = "/api/v1/plan"
	for n := range 5 {
		want("192.0.2.1", long, []int{200, 200, 200, 503, 503}[n]) // each has a little more than a quarter of the bound
	}
	want("192.0.2.1", "/", 200)
	for n := range 5 {
		want(fmt.Sprint("192.0.2.", 100+n), long, 200)
	}
	for n := range 20 {
		ask(fmt.Sprint("198.51.100.", n), long)
	}
	want("203.0.113.1", long, 503)
	want("203.0.113.1", "/", 200)
	want("203.0.113.1", "/api/v1/fleet", 200)
	close(released)
	all.Wait()
	want("192.0.2.1", long, 200)
	all.Wait()
	if handler.unread.all != 0 || len(handler.unread.from) != 0 || len(handler.turns) != 0 {
		t.Errorf("in the end there are %+v, and %d turns", &handler.unread, len(handler.turns))
	}
}

// Clients that ask at the same time wait for their turns, and do not fill the memory.
func TestAnswersThatAreMadeAtOnceAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cache := fleet.NewCache(storetest.NewMemory(), func() []fleet.Source { return []fleet.Source{{Max: 1}} }, 1)
		defer cache.Stop()
		begun, finish := make(chan struct{}, 100), make(chan struct{})
		handler := New(Options{
			Fleet: cache, Groups: func() map[string]grant.Group { return map[string]grant.Group{"default": {Max: 1}} }, Log: slog.New(slog.DiscardHandler),
			Zone: func() *time.Location { // which every page asks for
				begun <- struct{}{}
				<-finish
				return time.UTC
			},
		})
		var all sync.WaitGroup
		ask := func(ctx context.Context) *httptest.ResponseRecorder {
			w := httptest.NewRecorder()
			all.Go(func() { handler.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "/", nil)) })
			synctest.Wait()
			return w
		}
		want := func(when string, n int) {
			t.Helper()
			if synctest.Wait(); len(begun) != n {
				t.Errorf("%s: %d answers were begun, want %d", when, len(begun), n)
			}
		}
		var answers []*httptest.ResponseRecorder
		for range atOnce + 2 {
			answers = append(answers, ask(t.Context()))
		}
		want("after the questions", atOnce)
		gone, leave := context.WithCancel(t.Context())
		left := ask(gone)
		leave()
		finish <- struct{}{}
		want("after one answer", atOnce+1)
		close(finish)
		all.Wait()
		want("in the end", atOnce+2) // without the one that has left
		for n, w := range answers {
			if w.Code != http.StatusOK || w.Body.Len() == 0 {
				t.Errorf("answer %d: %d", n, w.Code)
			}
		}
		if left.Body.Len() > 0 {
			t.Errorf("who has left got %q", left.Body)
		}
	})
}
