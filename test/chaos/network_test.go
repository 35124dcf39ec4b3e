package chaos

import (
	"bytes"
	"fmt"
	"net"
	"strconv"
	"sync"
)

// network carries the bytes between members, and holds them back between members that are split. A member
// identifies itself at the beginning of what it sends, in an HTTP header.
type network struct {
	wg sync.WaitGroup

	mu        sync.Mutex
	listeners []net.Listener
	conns     map[net.Conn]bool
	cut       map[[2]uint64]bool
	changed   chan struct{} // closed and replaced with every change of cut
	closed    chan struct{}
}

func newNetwork() *network {
	return &network{conns: map[net.Conn]bool{}, cut: map[[2]uint64]bool{}, changed: make(chan struct{}), closed: make(chan struct{})}
}

// proxy listens for connections of other members to a member, and returns its address.
func (n *network) proxy(id uint64, target string) (string, error) {
	host, _, err := net.SplitHostPort(target)
	if err != nil {
		return "", err
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return "", fmt.Errorf("listen for members: %w", err)
	}
	n.mu.Lock()
	n.listeners = append(n.listeners, listener)
	n.mu.Unlock()
	n.wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // closed
			}
			n.wg.Go(func() { n.carry(conn, id, target) })
		}
	})
	return listener.Addr().String(), nil
}

// split holds back all bytes between two members, in both directions.
func (n *network) split(a, b uint64) { n.change(func() { n.cut[pair(a, b)] = true }) }

// heal ends every split.
func (n *network) heal() { n.change(func() { clear(n.cut) }) }

func (n *network) change(change func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change()
	close(n.changed)
	n.changed = make(chan struct{})
}

func pair(a, b uint64) [2]uint64 { return [2]uint64{min(a, b), max(a, b)} }

func (n *network) close() {
	n.mu.Lock()
	close(n.closed)
	for _, l := range n.listeners {
		_ = l.Close()
	}
	for c := range n.conns {
		_ = c.Close()
	}
	n.mu.Unlock()
	n.wg.Wait()
}

// keep registers conn, so that close closes it; done closes and removes it.
func (n *network) keep(conn net.Conn) (done func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	select {
	case <-n.closed:
		_ = conn.Close()
	default:
		n.conns[conn] = true
	}
	return func() {
		_ = conn.Close()
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.conns, conn)
	}
}

// carry connects one member with another and moves bytes until either side ends.
func (n *network) carry(from net.Conn, to uint64, target string) {
	defer n.keep(from)()
	head, sender := introduction(from)
	link := pair(sender, to)
	if !n.await(link) {
		return
	}
	server, err := net.Dial("tcp", target)
	if err != nil {
		return // as if the connection had been refused
	}
	defer n.keep(server)()
	if _, err := server.Write(head); err != nil {
		return
	}
	ended := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{server, from}, {from, server}} {
		n.wg.Go(func() {
			n.move(way[0], way[1], link)
			ended <- struct{}{}
		})
	}
	<-ended
}

func (n *network) move(to, from net.Conn, link [2]uint64) {
	buf := make([]byte, 64<<10)
	for {
		got, err := from.Read(buf)
		if !n.await(link) {
			return
		}
		if _, writeErr := to.Write(buf[:got]); err != nil || writeErr != nil {
			return
		}
	}
}

// await returns true once two members are not split, or false if the network is closed first.
func (n *network) await(link [2]uint64) bool {
	for {
		n.mu.Lock()
		cut, changed := n.cut[link], n.changed
		n.mu.Unlock()
		if !cut {
			return true
		}
		select {
		case <-changed:
		case <-n.closed:
			return false
		}
	}
}

// introduction reads the first header, and returns it with the id of the member that sent it; the id is 0 if there
// is none, as in requests that are not about consensus.
func introduction(conn net.Conn) (head []byte, sender uint64) {
	const name, most = "\r\nX-Server-From: ", 16 << 10
	buf := make([]byte, 4<<10)
	for !bytes.Contains(head, []byte("\r\n\r\n")) && len(head) < most {
		n, err := conn.Read(buf)
		head = append(head, buf[:n]...)
		if err != nil {
			return head, 0
		}
	}
	_, after, _ := bytes.Cut(head, []byte(name))
	id, _, _ := bytes.Cut(after, []byte("\r\n"))
	sender, _ = strconv.ParseUint(string(id), 16, 64)
	return head, sender
}
