package processes

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/locksmithd/locksmith/test/must"
)

// newProxiedHost makes a host whose locksmithd reaches the bus through a proxy.
func newProxiedHost(t *testing.T, conf string) (*host, *busProxy) {
	t.Helper()
	// The path of a socket has at most 108 bytes, and the test's own folder has a longer one.
	dir, err := os.MkdirTemp("", "calls")
	must.Do(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "socket")
	listener, err := net.Listen("unix", socket)
	must.Do(t, err)
	p := &busProxy{}
	t.Cleanup(func() {
		listener.Close()
		p.close()
	})
	h := newHost(t, conf, withEnv("DBUS_SYSTEM_BUS_ADDRESS=unix:path="+socket))
	bus := strings.TrimPrefix(h.Bus.Address(), "unix:path=")
	p.running.Go(func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("unix", bus)
			if err != nil {
				near.Close()
				continue
			}
			p.join(near, far)
		}
	})
	return h, p
}

// busProxy carries connections to a bus, and can cut each one.
type busProxy struct {
	running sync.WaitGroup
	mu      sync.Mutex
	cuts    []func() // end a connection each
}

// join copies both ways until either side ends.
func (p *busProxy) join(near, far net.Conn) {
	end := func() {
		near.Close()
		far.Close()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cuts = append(p.cuts, end)
	for _, to := range [][2]net.Conn{{near, far}, {far, near}} {
		p.running.Go(func() {
			defer end()
			_, _ = io.Copy(to[0], to[1]) // it ends when either is closed
		})
	}
}

// count returns the number of connections so far.
func (p *busProxy) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.cuts)
}

// cut ends connection i, counted from 0.
func (p *busProxy) cut(i int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cuts[i]()
}

// close ends all connections, once no new ones can come, and waits for the copying to end.
func (p *busProxy) close() {
	for i := range p.count() {
		p.cut(i)
	}
	p.running.Wait()
}
