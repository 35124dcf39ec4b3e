package processes

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/locksmithd/locksmith/test/bustest"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
)

// Any local user can make logind's list of inhibitors too long to be read. That hides whose
// inhibitor it is, and does not let it hold the host back past the deadline.
func TestDeadlineEndsAnInhibitorThatOthersHide(t *testing.T) {
	t.Parallel()
	g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
	h := newHost(t, g.conf()+"LOCKSMITHD_MAX_POSTPONE=20s\n")
	crowd := make([]bustest.Inhibitor, 200)
	for i := range crowd {
		crowd[i] = bustest.Inhibitor{Who: "mallory", Why: strings.Repeat("x", 2000), Mode: "delay", UID: 1000}
	}
	h.Logind.SetInhibitors(append(crowd, someBackup)...)
	h.Engine.Set(needReboot)
	h.start()
	h.awaitStatus("held back by", "logind does not list who", "block inhibitor", "users and inhibitors can postpone it until")
	h.wantNoReboot()
	h.awaitReboot()
	g.wantHeldThroughout(h.id)
}

// The bus drops one of the daemon's connections, and stays. Which one it is makes no
// difference: the next start goes on.
func TestOneConnectionToTheBusLostEndsTheDaemon(t *testing.T) {
	t.Parallel()
	for i, name := range []string{"for signals", "for calls"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
			h, proxy := newProxiedHost(t, g.conf())
			must.Do(t, h.Logind.SetSessions(someUser))
			h.Engine.Set(needReboot)
			h.start()
			h.awaitStatus("users are logged in")
			if n := proxy.count(); n != 2 {
				t.Fatalf("it has %d connections to the bus, not 2", n)
			}
			proxy.cut(i)
			h.wantExit(1)
			h.awaitLog("level=ERROR", "locksmithd ends", "the connection to the system bus is lost")
			if n := h.logged("level=ERROR"); n != 1 {
				t.Errorf("it logged %d errors", n)
			}
			must.Do(t, h.Logind.SetSessions())
			h.start()
			h.awaitReboot()
			g.wantHeldThroughout(h.id)
		})
	}
}

// newProxiedHost makes a host whose locksmithd reaches the bus through a proxy.
func newProxiedHost(t *testing.T, conf string) (*host, *busProxy) {
	t.Helper()
	// Not below the test's own folder: the path of a socket has 108 bytes at most.
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

// busProxy passes connections on to a bus, and can cut each by itself.
type busProxy struct {
	running sync.WaitGroup
	mu      sync.Mutex
	cuts    []func() // of the connections, as they came
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

// count returns how many connections there were.
func (p *busProxy) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.cuts)
}

// cut ends the connection that came as number i, from 0.
func (p *busProxy) cut(i int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cuts[i]()
}

// close ends all connections, once no more can come, and waits for what copies.
func (p *busProxy) close() {
	for i := range p.count() {
		p.cut(i)
	}
	p.running.Wait()
}
