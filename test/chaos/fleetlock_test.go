package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"testing/iotest"
	"time"

	"github.com/locksmithd/locksmith/fleetlock"
	"github.com/locksmithd/locksmith/internal/grant"
)

// remote is a host that speaks FleetLock, and asks one or the other of two servers.
type remote struct {
	client
	holding  bool       // as far as the host knows
	unsure   bool       // the outcome of its last request is unknown
	requests []*request // of which a transaction may still be under way, and all pre-reboot since the last steady-state
}

func (c *remote) preReboot() output   { return c.ask(input{kind: preReboot, id: c.id}) }
func (c *remote) steadyState() output { return c.ask(input{kind: steadyState, id: c.id}) }

// ask makes a request and records it in the history.
func (c *remote) ask(in input) output {
	s, v := c.run.servers, c.run.servers.server(c.rng.IntN(2))
	in.group = c.group
	over, running := c.over(v)
	x := &request{name: fmt.Sprintf("%d-%d", c.number, c.run.history.now()), server: v, op: c.run.history.call(c.number, in)}
	s.mu.Lock()
	s.requests[x.name] = x
	s.mu.Unlock()
	err := c.send(x)
	out := output{result: c.outcome(in, err), undecided: running}

	s.mu.Lock()
	ended, wrote, moved, tries := x.ended, x.wrote, x.moved, slices.Clone(x.tries)
	s.mu.Unlock()
	recorded := out
	if out.result == unknown && ended && !moved && len(tries) == 0 {
		recorded.result = failed
	}
	c.run.history.end(x.op, recorded, err)
	c.run.count(in, out, 0)
	c.unsure = out.result == unknown
	if x.settled = recorded.result != unknown; x.settled {
		c.run.history.close(tries)
	}
	if out.result == done && in.kind != foreign {
		for _, earlier := range over {
			c.settle(earlier)
			if in.kind == steadyState {
				s.withdraw(earlier, wrote)
				c.requests = slices.DeleteFunc(c.requests, func(other *request) bool { return other == earlier })
			}
		}
	}
	if in.kind != foreign && (!x.settled || in.kind == preReboot) {
		c.requests = append(c.requests, x)
	}
	return out
}

// over returns the earlier requests that cannot change anything any more once a server has answered the next one with a
// success: transactions that were sent may be under way, but no other one will be sent. running reports whether a
// server may still work on an earlier request.
func (c *remote) over(next *server) (over []*request, running bool) {
	c.run.servers.mu.Lock()
	defer c.run.servers.mu.Unlock()
	for _, x := range c.requests {
		running = running || !x.ended
		if x.ended || x.reached && x.server == next && x.op.in.kind == preReboot {
			over = append(over, x)
		}
	}
	return over, running
}

// settle closes the operations of a request whose outcome was unknown.
func (c *remote) settle(x *request) {
	if x.settled {
		return
	}
	x.settled = true
	c.run.servers.mu.Lock()
	ops := append([]*op{x.op}, x.tries...)
	if x.ended && !x.moved { // only those that were not answered can have happened
		c.run.history.fail(ops[len(ops)-1])
	}
	c.run.servers.mu.Unlock()
	c.run.history.close(ops)
}

// send sends a request. Some get very little time, and others less than a server lets them wait.
func (c *remote) send(x *request) error {
	limit := callTimeout
	switch c.rng.IntN(20) {
	case 0:
		limit = time.Duration(c.rng.IntN(30_000)) * time.Microsecond
	case 1, 2, 3:
		limit = time.Duration(20+c.rng.IntN(800)) * time.Millisecond
	}
	ctx, cancel := context.WithTimeout(c.run.ctx, limit)
	defer cancel()
	options := fleetlock.ClientOptions{HTTP: &http.Client{Transport: link{c, x}}, User: x.name}
	client, err := fleetlock.NewClient(x.server.url, options)
	if err != nil {
		panic(err) // the URL is valid
	}
	p := fleetlock.Params{ID: idName(x.op.in.id), Group: groupName(c.group)}
	if x.op.in.kind == preReboot {
		err = client.PreReboot(ctx, p)
	} else {
		err = client.SteadyState(ctx, p)
	}
	if err != nil && !errors.Is(err, fleetlock.ErrUnknown) {
		x.end(c.run.servers) // it was answered, or not sent
	}
	return err
}

// outcome is the result that an answer stands for.
func (c *remote) outcome(in input, err error) result {
	answer, answered := errors.AsType[*fleetlock.Error](err)
	wrong := func() result {
		c.run.problem("%s in group %d is answered: %v", describe(in, output{}), in.group, err)
		return unknown
	}
	switch {
	case err == nil:
		return done
	case errors.Is(err, fleetlock.ErrUnknown) && answered && answer.Kind != fleetlock.KindUnavailable:
		return wrong()
	case errors.Is(err, fleetlock.ErrUnknown):
		return unknown
	case !answered:
		return failed // it was not sent, or the rest of a refusal was lost
	case in.kind == foreign && answer.Kind == grant.KindIDInUse:
		return already
	case in.kind != preReboot:
		return wrong()
	}
	switch answer.Kind {
	case fleetlock.KindLockHeld, fleetlock.KindWindowShut:
		return refused
	case fleetlock.KindPaused:
		return paused
	}
	return wrong()
}

// act makes one request, or ends a server.
func (c *remote) act(ctx context.Context) {
	switch n := c.rng.IntN(200); {
	case n == 0:
		c.run.servers.replace(c.run.servers.server(c.rng.IntN(2)), serverKilled)
	case n == 1:
		c.run.servers.stop(c.run.servers.server(c.rng.IntN(2)))
	case n < 8: // it pretends to be a host that asks for itself
		c.ask(input{kind: foreign, id: c.rng.IntN(c.run.Hosts)})
	case n < 16, c.holding && !c.unsure && n < 120, !c.holding && c.unsure && n < 80:
		if c.steadyState().result == done {
			c.holding = false
		}
	default:
		switch c.preReboot().result {
		case done:
			c.holding = true
		case refused, paused:
			c.holding = false
		}
	}
	if !c.unsure {
		pace(ctx, time.Duration(c.rng.IntN(10))*time.Millisecond)
	}
}

// drain waits for the host's turn, and gives the slot back. The servers have been renewed, so that they work on no
// earlier request.
func (c *remote) drain(ctx context.Context) error {
	for _, x := range c.requests {
		x.end(c.run.servers)
	}
	if !until(ctx, c.preReboot, done) {
		return fmt.Errorf("the client %s in group %d never got its turn", c.name(), c.group)
	}
	if !until(ctx, c.steadyState, done) {
		return fmt.Errorf("the client %s in group %d cannot give its slot back", c.name(), c.group)
	}
	return nil
}

// link carries a request to its server, and may lose it, its answer, or deliver it late.
type link struct {
	remote  *remote
	request *request
}

var errLost = errors.New("the connection was lost")

// RoundTrip implements http.RoundTripper.
func (l link) RoundTrip(req *http.Request) (*http.Response, error) {
	s, cluster, rng := l.remote.run.servers, l.remote.run.cluster, l.remote.rng
	fault := -1
	if cluster.faulty.Load() {
		fault = rng.IntN(60)
	}
	switch fault {
	case 0, 1:
		cluster.count("request to a FleetLock server lost")
		l.request.end(s)
		_ = req.Body.Close()
		return nil, errLost
	case 2, 3:
		cluster.count("late request to a FleetLock server")
		d := time.Duration(rng.IntN(1500)) * time.Millisecond
		s.late.Go(func() {
			pace(s.run.ctx, d)
			s.carry(req)
		})
		return nil, errLost
	case 4, 5, 6, 7:
		cluster.count("answer of a FleetLock server lost")
		s.carry(req)
		return nil, errLost
	}
	resp, err := s.transport.RoundTrip(req)
	if err == nil && fault == 8 {
		cluster.count("answer of a FleetLock server cut short")
		resp.Body = struct {
			io.Reader
			io.Closer
		}{iotest.ErrReader(errLost), resp.Body}
	}
	return resp, err
}

// carry carries a request whose client does not wait for the answer.
func (s *servers) carry(req *http.Request) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(req.Context()), callTimeout)
	defer cancel()
	if resp, err := s.transport.RoundTrip(req.WithContext(ctx)); err == nil {
		_ = resp.Body.Close()
	}
}
