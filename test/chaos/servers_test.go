package chaos

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/locksmithd/locksmith/fleetlock"
	"github.com/locksmithd/locksmith/internal/grant"
	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/lock/etcd"
)

// servers are two FleetLock servers that serve every group at once, each with its own connections to etcd. They are
// made of what locksmithctl serve is made of.
type servers struct {
	run       *run
	groups    map[string]grant.Group
	transport http.Transport
	late      sync.WaitGroup // requests that are still on their way to a server, or whose answer nobody reads
	running   sync.WaitGroup // requests that a server works on

	mu       sync.Mutex // also for the requests
	rng      *rand.Rand
	both     [2]*server
	requests map[string]*request
	leases   map[int64]*request // that got them for places in the queue
}

// server is one process.
type server struct {
	all    *servers
	number int
	life   context.Context
	kill   context.CancelFunc
	etcd   *etcd.Store
	grants grants
	http   *http.Server
	url    string
}

// grants is what a grant.Server is.
type grants interface {
	fleetlock.Server
	Stop()
}

// held is how long a server lets a client wait.
const held = time.Second

// Faults of servers.
const (
	killedAfterCommit  = "FleetLock server killed after its commit"
	killedBeforeCommit = "FleetLock server killed before its commit"
	serverKilled       = "FleetLock server killed"
	serverStopped      = "FleetLock server stopped"
)

func (r *run) startServers() error {
	s := &servers{run: r, groups: map[string]grant.Group{}, rng: rand.New(rand.NewPCG(r.Seed, 2))}
	for g := range r.Groups {
		group := grant.Group{Lock: groupName(g), Max: 1}
		if g%2 == 1 {
			group.Window = &hours{cluster: r.cluster}
		}
		s.groups[groupName(g)] = group
	}
	r.servers = s
	return s.renew()
}

// hours is a window that is shut for a fifth of the time while there are faults.
type hours struct{ cluster *cluster }

func (h *hours) Next(t time.Time) (start, end time.Time) {
	const open, all = 2 * time.Second, 2500 * time.Millisecond
	start = t.Truncate(all)
	switch {
	case !h.cluster.faulty.Load():
		return time.Time{}, time.Time{}
	case t.Sub(start) >= open:
		start = start.Add(all)
	}
	return start, start.Add(open)
}

func (*hours) ShutBy(time.Time) string { return "" }

// renew replaces both servers, and returns when nothing is left of the requests to those before. No client may ask
// meanwhile.
func (s *servers) renew() error {
	s.late.Wait()
	s.mu.Lock()
	old := s.both
	s.both = [2]*server{}
	for _, v := range old {
		if v != nil {
			v.kill()
		}
	}
	s.mu.Unlock()
	for _, v := range old {
		if v != nil {
			v.cut()
		}
	}
	s.running.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests, s.leases = map[string]*request{}, map[int64]*request{}
	for n := range s.both {
		v, err := s.start(n)
		if err != nil {
			return err
		}
		s.both[n] = v
	}
	return nil
}

// close ends both servers.
func (s *servers) close() {
	for _, v := range s.both {
		if v != nil {
			v.kill()
			v.cut()
		}
	}
	s.transport.CloseIdleConnections()
}

// connect returns a store for server n. The calls of server 0 meet faults, and the bytes of server 1.
func (s *servers) connect(n int) *etcd.Store {
	return etcd.New(etcd.Config{Endpoints: strings.Join(s.run.cluster.endpoints(n), ",")})
}

// start starts server n.
func (s *servers) start(n int) (*server, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start a FleetLock server: %w", err)
	}
	v := &server{all: s, number: n, etcd: s.connect(n), url: "http://" + listener.Addr().String()}
	v.life, v.kill = context.WithCancel(s.run.ctx)
	v.grants = s.run.Serve(grant.Options{
		Store:  &serverTap{Store: s.run.Break(v.etcd), server: v},
		Groups: func() map[string]grant.Group { return s.groups },
		Hold:   held,
		Waits:  1000,
		Log:    slog.New(slog.DiscardHandler),
	})
	v.http = fleetlock.NewHTTPServer(&fleetlock.Handler{
		Server: v,
		Log:    func(err error) { s.run.problem("a FleetLock server failed: %v", err) },
	})
	v.http.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	v.http.BaseContext = func(net.Listener) context.Context { return v.life }
	go func() { _ = v.http.Serve(listener) }() // until it is closed
	return v, nil
}

// cut ends the connections of a server that was killed.
func (v *server) cut() {
	_ = v.http.Close()
	_ = v.etcd.Close() // its error only reports that it was closed
}

// replace kills a server, and starts another one in its place. Nothing that the server does from now on gets through,
// neither to etcd nor to its clients.
func (s *servers) replace(v *server, fault string) {
	s.mu.Lock()
	if s.both[v.number] != v {
		s.mu.Unlock()
		return
	}
	v.kill()
	next, err := s.start(v.number)
	if err != nil {
		s.run.problem("harness: %v", err)
		next = v
	}
	s.both[v.number] = next
	s.mu.Unlock()
	s.run.cluster.count(fault)
	v.cut()
}

// stop has a server end as it does when its unit is stopped, and starts another one.
func (s *servers) stop(v *server) {
	v.grants.Stop()
	ctx, cancel := context.WithTimeout(v.life, time.Second)
	defer cancel()
	_ = v.http.Shutdown(ctx) // what it has not finished is cut
	s.replace(v, serverStopped)
}

func (s *servers) roll(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rng.IntN(n)
}

func (s *servers) server(n int) *server {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.both[n]
}

// request is a request of a client, with what the server did for it. A name in the request tells the server which it
// is.
type request struct {
	name   string
	op     *op
	server *server

	reached bool  // the server has asked etcd for it
	ended   bool  // the server does nothing more for it, and will not
	wrote   int64 // the revision of the last write of the document for it that was answered; 0 if none was
	moved   bool  // one of them has taken or released a slot
	settled bool  // the operations of the history are closed
	// compared has the revisions of the document that unanswered transactions compare which take or release a slot, and
	// tries an operation of unknown outcome for each.
	compared []int64
	tries    []*op

	// The revisions of the steady-state by which its place in the queue has to be gone, of the last transaction that put
	// the place there, and of the one that ended it; 0 for none.
	withdrawn, placed, removed int64
}

type requestKey struct{}

// PreReboot and SteadyState implement fleetlock.Server.
func (v *server) PreReboot(ctx context.Context, caller fleetlock.Caller, p fleetlock.Params) error {
	return v.serve(ctx, caller, p, v.grants.PreReboot)
}

func (v *server) SteadyState(ctx context.Context, caller fleetlock.Caller, p fleetlock.Params) error {
	return v.serve(ctx, caller, p, v.grants.SteadyState)
}

// answering is a method of a fleetlock.Server.
type answering func(context.Context, fleetlock.Caller, fleetlock.Params) error

// serve has the server answer, and notes what it does.
func (v *server) serve(ctx context.Context, caller fleetlock.Caller, p fleetlock.Params, do answering) error {
	v.all.mu.Lock()
	x := v.all.requests[caller.User]
	if v.life.Err() != nil || x == nil {
		v.all.mu.Unlock()
		return context.Canceled // it was killed
	}
	v.all.running.Add(1)
	v.all.mu.Unlock()
	defer v.all.running.Done()
	defer x.end(v.all)
	return do(context.WithValue(ctx, requestKey{}, x), caller, p)
}

func (x *request) end(s *servers) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x.ended = true
}

// serverTap is the store of a server. It notes for which request a transaction is, and kills the server after some.
type serverTap struct {
	lock.Store
	server *server
}

func (t *serverTap) request(ctx context.Context) *request {
	x, _ := ctx.Value(requestKey{}).(*request)
	t.server.all.mu.Lock()
	defer t.server.all.mu.Unlock()
	x.reached = true
	return x
}

func (t *serverTap) Get(ctx context.Context, reads ...lock.Read) (lock.Snapshot, error) {
	t.request(ctx)
	return t.Store.Get(ctx, reads...)
}

func (t *serverTap) Commit(
	ctx context.Context, conds []lock.Cond, ops []lock.Op, reads ...lock.Read,
) (ok bool, now lock.Snapshot, err error) {
	x, s, fate := t.request(ctx), t.server.all, -1
	moves := slices.ContainsFunc(ops, func(op lock.Op) bool { return strings.Contains(op.Key, "/holders/") })
	if chance := 60; s.run.cluster.faulty.Load() {
		if moves {
			chance = 10
		}
		fate = s.roll(chance)
	}
	if fate == 0 {
		err = t.killBefore(ctx, conds, ops)
	} else {
		ok, now, err = t.Store.Commit(ctx, conds, ops, reads...)
	}
	switch {
	case !slices.ContainsFunc(ops, counts):
	case unanswered(err) && moves:
		s.unanswered(x, conds)
	case err == nil && ok:
		s.mu.Lock()
		x.wrote, x.moved = now.Revision, x.moved || moves
		s.mu.Unlock()
	}
	if fate == 1 && err == nil && ok {
		s.replace(t.server, killedAfterCommit)
	}
	return ok, now, err
}

// killBefore kills the server while a transaction is on its way to etcd, which does it later.
func (t *serverTap) killBefore(ctx context.Context, conds []lock.Cond, ops []lock.Op) error {
	s := t.server.all
	s.replace(t.server, killedBeforeCommit)
	d := time.Duration(s.roll(1000)) * time.Millisecond
	if s.roll(3) > 0 { // before the document has changed again
		d /= 20
	}
	s.late.Go(func() {
		pace(s.run.ctx, d)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
		defer cancel()
		store := s.connect(t.server.number)
		defer store.Close()
		_, _, _ = store.Commit(ctx, conds, ops)
	})
	return t.server.life.Err()
}

// unanswered notes a transaction that may have happened. Of those that compare the same revision of the document one
// can happen, at most.
func (s *servers) unanswered(x *request, conds []lock.Cond) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.IndexFunc(conds, isSemaphore); i >= 0 {
		if slices.Contains(x.compared, conds[i].ModRevision) {
			return
		}
		x.compared = append(x.compared, conds[i].ModRevision)
	}
	x.tries = append(x.tries, s.run.history.again(x.op, 1)...)
}

// Grant shortens the life of places in the queue, so that the end of a long run can wait for it.
func (t *serverTap) Grant(ctx context.Context, ttl time.Duration) (int64, error) {
	x := t.request(ctx)
	lease, err := t.Store.Grant(ctx, min(ttl, time.Minute))
	if err == nil {
		t.server.all.mu.Lock()
		defer t.server.all.mu.Unlock()
		t.server.all.leases[lease] = x
	}
	return lease, err
}

// Revoke ends with the process. (The contexts of all other calls do so anyway.)
func (t *serverTap) Revoke(ctx context.Context, lease int64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(t.server.life, cancel)()
	return t.Store.Revoke(ctx, lease)
}

// placed notes that a revision has put a place into the queue, with a lease.
func (s *servers) placed(lease, revision int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if x := s.leases[lease]; x != nil {
		x.placed = revision
		s.checkPlace(x)
	}
}

// removed notes that a revision has ended the place with a lease.
func (s *servers) removed(lease, revision int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if x := s.leases[lease]; x != nil {
		x.removed = revision
		s.checkPlace(x)
	}
}

// withdraw notes that a request may have no place in the queue from a revision on.
func (s *servers) withdraw(x *request, revision int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x.withdrawn = revision
	s.checkPlace(x)
}

func (s *servers) checkPlace(x *request) {
	if x.withdrawn != 0 && max(x.placed, x.removed) > x.withdrawn {
		s.run.problem("group %d: %s has a place in the queue after the steady-state of revision %d, by a request of before: "+
			"put there in revision %d, ended in revision %d (0 is not yet)",
			x.op.in.group, idName(x.op.in.id), x.withdrawn, x.placed, x.removed)
	}
}
