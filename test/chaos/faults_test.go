package chaos

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/locksmithd/locksmith/test/etcdtest"
)

// cluster is three members, with proxies between them, and between them and their clients.
type cluster struct {
	members []*member
	network *network
	admin   *clientv3.Client // to all members, past the proxies

	faulty atomic.Bool    // calls may meet faults
	late   sync.WaitGroup // calls that have not reached a member yet

	mu     sync.Mutex
	counts map[string]int // of faults, by name
}

// member is one member of the cluster. Clients connect to calls or bytes.
type member struct {
	*etcdtest.Server
	id    uint64
	calls *etcdtest.RPCProxy
	bytes *etcdtest.Proxy
}

// startCluster runs a cluster in dir until close. Members first start without proxies between them, and are then
// reconfigured to use them.
func startCluster(ctx context.Context, dir string) (_ *cluster, err error) {
	binary, err := etcdtest.Binary(etcdtest.Newest)
	if err != nil {
		return nil, err
	}
	servers, err := etcdtest.StartCluster(ctx, 3, etcdtest.Options{Binary: binary, Dir: dir, Args: []string{"--log-level=error"}})
	if err != nil {
		return nil, err
	}
	c := &cluster{network: newNetwork(), counts: map[string]int{}}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	var endpoints []string
	for _, s := range servers {
		c.members = append(c.members, &member{Server: s})
		endpoints = append(endpoints, s.Endpoint())
	}
	if c.admin, err = clientv3.New(clientv3.Config{Endpoints: endpoints, Logger: zap.NewNop()}); err != nil {
		return nil, fmt.Errorf("make admin client: %w", err)
	}
	if err := c.connect(ctx); err != nil {
		return nil, fmt.Errorf("put proxies between members: %w", err)
	}
	for _, m := range c.members {
		if m.calls, err = etcdtest.NewRPCProxy(m.Server); err != nil {
			return nil, err
		}
		if m.bytes, err = etcdtest.NewProxy(m.Server); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// setUpTimeout bounds the set-up of a cluster, which takes a second or two.
const setUpTimeout = 2 * time.Minute

// connect makes members reach each other through the network's proxies.
func (c *cluster) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, setUpTimeout)
	defer cancel()
	list, err := c.admin.MemberList(ctx)
	if err != nil {
		return err
	}
	for _, m := range c.members {
		for _, listed := range list.Members {
			if listed.ClientURLs[0] != m.Endpoint() {
				continue
			}
			m.id = listed.ID
			peer, err := url.Parse(listed.PeerURLs[0])
			if err != nil {
				return err
			}
			proxy, err := c.network.proxy(m.id, peer.Host)
			if err != nil {
				return err
			}
			if err := c.move(ctx, m.id, "http://"+proxy); err != nil {
				return err
			}
		}
	}
	for _, m := range c.members { // so that they do not use their present connections
		if err := m.Restart(ctx); err != nil {
			return err
		}
	}
	return nil
}

// move gives a member another URL for its peers. etcd may drop such a change while it has no leader, and does not
// answer then: it is asked again.
func (c *cluster) move(ctx context.Context, member uint64, to string) error {
	for {
		call, cancel := context.WithTimeout(ctx, 5*time.Second)
		_, err := c.admin.MemberUpdate(call, member, []string{to})
		late := call.Err() != nil
		cancel()
		if err == nil || !late || ctx.Err() != nil {
			return err
		}
	}
}

func (c *cluster) close() {
	for _, m := range c.members {
		if m.calls != nil {
			m.calls.Close()
		}
		if m.bytes != nil {
			m.bytes.Close()
		}
		m.Close()
	}
	c.network.close()
	if c.admin != nil {
		_ = c.admin.Close() // its error only reports that its context is cancelled
	}
}

// endpoints returns the endpoints for the nth client: half of the clients get faults of calls, the other half
// faults of bytes.
func (c *cluster) endpoints(n int) []string {
	var endpoints []string
	for i := range c.members {
		m := c.members[(i+n)%len(c.members)]
		if n%2 == 0 {
			endpoints = append(endpoints, m.calls.Endpoint())
		} else {
			endpoints = append(endpoints, m.bytes.Endpoint())
		}
	}
	return endpoints
}

func (c *cluster) count(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts[name]++
}

// faults returns the number of faults by name.
func (c *cluster) faults() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.counts)
}

// disturb makes a share of the calls meet faults while c.faulty is set.
func (c *cluster) disturb(rng *rand.Rand) {
	var mu sync.Mutex
	roll := func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		return rng.IntN(n)
	}
	for _, m := range c.members {
		m.calls.Every(func(method string, request []byte) bool {
			chance := 300
			if etcdtest.Writes(method, request) {
				chance = 30
			}
			return c.faulty.Load() && roll(chance) == 0
		}, func(ctx context.Context, call *etcdtest.Call) error {
			if !streams(call.Method) {
				switch roll(6) {
				case 0:
					c.count("reply withheld")
					return etcdtest.WithholdReply(ctx, call)
				case 1, 2:
					c.count("reply lost")
					return etcdtest.LoseReply(ctx, call)
				case 3, 4:
					c.count("late call")
					d := time.Duration(roll(6000)) * time.Millisecond
					if roll(2) == 0 {
						d /= 20
					}
					c.late.Add(1)
					defer c.late.Done()
					return etcdtest.Delay(d)(ctx, call)
				}
			}
			c.count("request lost")
			return etcdtest.LoseRequest(ctx, call)
		})
	}
}

func streams(method string) bool { return method == etcdtest.Watch || method == etcdtest.KeepAlive }

// torment makes one fault after another until ctx ends, and mends each. It returns an error of mending. The first
// fault kills the leader, so that even a short run meets a fault.
func (c *cluster) torment(ctx context.Context, rng *rand.Rand, w *witness) error {
	for first := true; ctx.Err() == nil; first = false {
		pace(ctx, time.Duration(50+rng.IntN(350))*time.Millisecond)
		if ctx.Err() != nil {
			break
		}
		kind, leader := rng.IntN(12), rng.IntN(2) == 0
		if first {
			kind, leader = 0, true
		}
		name, mend, err := c.harm(ctx, rng, kind, leader, w.seen)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		c.count(name)
		if name == noQuorum && w.unwellHost() {
			c.count(goneWhileUnwell)
		}
		pace(ctx, time.Duration(100+rng.IntN(1900))*time.Millisecond)
		mending, cancel := context.WithTimeout(context.WithoutCancel(ctx), mendTimeout)
		err = mend(mending)
		cancel()
		if err != nil {
			return fmt.Errorf("mend %s: %w", name, err)
		}
	}
	return nil
}

// Faults that are counted by name.
const (
	noQuorum        = "majority killed"
	goneWhileUnwell = "of them while a host was unwell"
)

// mendTimeout bounds the time until a cluster is healthy again on a busy machine.
const mendTimeout = 3 * time.Minute

// harm makes a fault of a kind, to the leader or to any member.
func (c *cluster) harm(ctx context.Context, rng *rand.Rand, kind int, leader bool, seen func() int64) (name string, mend func(context.Context) error, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), mendTimeout)
	defer cancel()
	order := rng.Perm(len(c.members))
	if leader {
		id := c.leader(ctx)
		i := max(0, slices.IndexFunc(order, func(i int) bool { return c.members[i].id == id }))
		order[0], order[i] = order[i], order[0]
	}
	victim, other, third := c.members[order[0]], c.members[order[1]], c.members[order[2]]
	nothing := func(context.Context) error { return nil }
	pass := func(context.Context) error { return victim.bytes.Pass() }
	switch kind {
	case 0, 1:
		victim.Kill()
		return "member killed", victim.Restart, nil
	case 2:
		victim.Kill()
		other.Kill()
		return noQuorum, func(ctx context.Context) error {
			result := make(chan error)
			go func() { result <- other.Restart(ctx) }()
			return errors.Join(victim.Restart(ctx), <-result)
		}, nil
	case 3, 4:
		return "member paused", victim.Resume, victim.Pause(ctx)
	case 5, 6:
		c.network.split(victim.id, other.id)
		c.network.split(victim.id, third.id)
		return "member cut off from both others", c.heal, nil
	case 7:
		c.network.split(victim.id, other.id)
		return "two members cut off from each other", c.heal, nil
	case 8:
		return "member silent to clients", pass, victim.bytes.BlackHole()
	case 9:
		return "replies of a member dropped", pass, victim.bytes.DropReplies()
	case 10:
		return "requests to a member held back", pass, victim.bytes.HoldRequests()
	default:
		if rng.IntN(2) == 0 {
			victim.bytes.Refuse()
			return "member refuses clients", pass, nil
		}
		if _, err := c.admin.Compact(ctx, seen()); err != nil {
			return "compaction", nothing, err
		}
		return "compaction", nothing, nil
	}
}

func (c *cluster) heal(context.Context) error {
	c.network.heal()
	return nil
}

// leader returns the id of the leader, or 0.
func (c *cluster) leader(ctx context.Context) uint64 {
	status := c.status(ctx)
	if status == nil {
		return 0
	}
	return status.Leader
}

// status returns a member's status of itself and of the cluster, or nil if no member answers.
func (c *cluster) status(ctx context.Context) *clientv3.StatusResponse {
	for _, m := range c.members {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		status, err := c.admin.Status(ctx, m.Endpoint())
		cancel()
		if err == nil {
			return status
		}
	}
	return nil
}

// settle waits until every member is healthy, and no call of a client is held back.
func (c *cluster) settle(ctx context.Context) error {
	for _, m := range c.members {
		if err := m.WaitHealthy(ctx); err != nil {
			return err
		}
	}
	c.late.Wait()
	return nil
}
