package chaos

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmithd/locksmith/internal/grant"
	"github.com/locksmithd/locksmith/lock"
)

// Config is the configuration of a run.
type Config struct {
	Seed uint64
	Dir  string // an existing folder for the cluster's data
	Dump string // an existing folder for histories that are wrong
	// The run ends after Ops operations, or earlier after Duration if that is not 0. It finishes the window
	// that it is in.
	Ops      int
	Duration time.Duration
	// WindowOps is the approximate number of operations of a window.
	WindowOps int
	// Groups is the number of locks; each has its own clients.
	Groups int
	// Hosts, Old and Remote are the numbers of hosts, of old clients and of FleetLock clients in a group, maxClients at
	// most. A group also has one operator.
	Hosts, Old, Remote int
	// Patience is the time after the end of the faults within which every host must get its turn.
	Patience time.Duration
	// Leases makes the run wait at its end until every lease has expired, a minute or more.
	Leases bool
	// Break, if not nil, returns a replacement for the store of hosts and operators.
	Break func(lock.Store) lock.Store
	// Serve, if not nil, returns a replacement for a FleetLock server with these options.
	Serve func(grant.Options) grants
	// Logf reports progress.
	Logf func(format string, args ...any)
}

// Report is the result of a run.
type Report struct {
	Ops       int // operations that are part of the history
	Unknown   int // of these, with an outcome unknown to the caller
	Outcomes  map[string]int
	Faults    map[string]int
	Elections uint64 // new terms of consensus
	Windows   int
	Elapsed   time.Duration
	Checking  time.Duration // of Elapsed, for the linearization
	// Violations found in the history, in the revisions, and in hosts that never got their turn. A run ends
	// with the first window that has any.
	History, Revisions, Liveness []string
	Undecided                    []string // histories that took too long to check
}

// String returns the report as text.
func (r *Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d operations, %d of unknown outcome, in %d windows in %v; %d elections\n", r.Ops, r.Unknown, r.Windows, r.Elapsed.Round(time.Second), r.Elections)
	for _, part := range []struct {
		title  string
		counts map[string]int
	}{{"outcomes", r.Outcomes}, {"faults", r.Faults}} {
		var list []string
		for _, name := range slices.Sorted(maps.Keys(part.counts)) {
			list = append(list, fmt.Sprintf("%s %d", name, part.counts[name]))
		}
		fmt.Fprintf(&b, "%s: %s\n", part.title, strings.Join(list, ", "))
	}
	for _, part := range []struct {
		title string
		wrong []string
	}{{"history", r.History}, {"undecided", r.Undecided}, {"revisions", r.Revisions}, {"liveness", r.Liveness}} {
		for _, problem := range part.wrong {
			fmt.Fprintf(&b, "WRONG (%s): %s\n", part.title, problem)
		}
	}
	return b.String()
}

// run is a run under way.
type run struct {
	Config
	ctx     context.Context
	cluster *cluster
	history *history
	witness *witness
	pauses  atomic.Int64 // number so far

	hosts     []*host
	old       []*oldClient
	remotes   []*remote
	operators []*operator
	servers   *servers
	seconds   sync.WaitGroup // second processes of hosts

	mu       sync.Mutex
	window   int // operations in it
	outcomes map[string]int
	problems []string
}

// Run runs a cluster and its clients. It returns an error of the harness, not of the lock.
func Run(ctx context.Context, config Config) (report *Report, err error) {
	if config.Break == nil {
		config.Break = func(s lock.Store) lock.Store { return s }
	}
	if config.Serve == nil {
		config.Serve = func(o grant.Options) grants { return grant.New(o) }
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := &run{Config: config, ctx: ctx, history: newHistory(), outcomes: map[string]int{}}
	if r.cluster, err = startCluster(ctx, config.Dir); err != nil {
		return nil, err
	}
	defer r.cluster.close()
	first := r.cluster.status(ctx)
	if first == nil {
		return nil, errors.New("no member answers")
	}
	if err := r.startServers(); err != nil {
		return nil, err
	}
	defer r.servers.close()
	r.witness = newWitness(r, first.Header.Revision)
	var watching sync.WaitGroup
	watching.Go(func() { r.witness.watch(ctx) })
	defer watching.Wait()
	defer cancel()

	rng := rand.New(rand.NewPCG(config.Seed, 0))
	if err := r.makeClients(); err != nil {
		return nil, err
	}
	defer r.endClients()
	r.cluster.disturb(rand.New(rand.NewPCG(config.Seed, 1)))

	report = &Report{}
	start := time.Now()
	r.history.cut(slices.Repeat([]state{{max: 1}}, config.Groups))
	for report.Ops < config.Ops && (config.Duration == 0 || time.Since(start) < config.Duration) && !report.wrong() {
		if err := r.oneWindow(rng, report); err != nil {
			return nil, err
		}
		r.Logf("%6d operations, %v (%v checking), %s", report.Ops, time.Since(start).Round(time.Second), report.Checking.Round(time.Second), r.cluster.summary())
	}
	if config.Leases && !report.wrong() {
		if err := r.noLeases(ctx); err != nil {
			report.Liveness = append(report.Liveness, err.Error())
		}
	}
	report.Elapsed = time.Since(start)
	report.Outcomes, report.Faults = r.outcomes, r.cluster.faults()
	if last := r.cluster.status(ctx); last != nil {
		report.Elections = last.RaftTerm - first.RaftTerm
	}
	return report, nil
}

func (r *Report) wrong() bool {
	return len(r.History)+len(r.Undecided)+len(r.Revisions)+len(r.Liveness) > 0
}

func (r *run) makeClients() error {
	number := 0
	for g := range r.Groups {
		for id := range r.Hosts + r.Old + r.Remote + 1 {
			number++
			c := client{run: r, number: number, group: g, id: id, rng: rand.New(rand.NewPCG(r.Seed, uint64(1+number)))}
			endpoints := r.cluster.endpoints(number)
			switch {
			case id < r.Hosts:
				h := &host{lockClient: lockClient{client: c, endpoints: endpoints}}
				h.start(r.ctx)
				r.hosts = append(r.hosts, h)
			case id < r.Hosts+r.Old:
				o, err := newOldClient(c, endpoints)
				if err != nil {
					return err
				}
				r.old = append(r.old, o)
			case id < r.Hosts+r.Old+r.Remote:
				r.remotes = append(r.remotes, &remote{client: c})
			default:
				o := &operator{lockClient: lockClient{client: c, endpoints: endpoints}}
				o.start(r.ctx)
				r.operators = append(r.operators, o)
			}
		}
	}
	return nil
}

func (r *run) endClients() {
	for _, h := range r.hosts {
		h.die()
	}
	for _, o := range r.operators {
		o.die()
	}
	for _, o := range r.old {
		_ = o.etcd.Close() // its error only reports that its context is cancelled
	}
}

// oneWindow lets all clients work under faults, ends the faults, and checks the result.
func (r *run) oneWindow(rng *rand.Rand, report *Report) error {
	r.mu.Lock()
	r.window = 0
	r.mu.Unlock()
	working, stop := context.WithCancel(r.ctx)
	defer stop()
	draining, giveUp := context.WithCancel(r.ctx)
	defer giveUp()
	mended := make(chan struct{})  // closed once all faults are mended
	renewed := make(chan struct{}) // closed once the FleetLock servers work on no request any more

	var clients, hosts, remotes, faults sync.WaitGroup // hosts and remotes are those that still work
	var mu sync.Mutex
	drained := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			report.Liveness = append(report.Liveness, err.Error())
		}
	}
	work := func(act func(context.Context)) {
		for working.Err() == nil {
			if act(working); r.full() {
				stop()
			}
		}
	}
	for _, h := range r.hosts { // they wait for their turn while faults still happen
		hosts.Add(1)
		clients.Go(func() {
			h.through.Store(false)
			work(h.act)
			hosts.Done()
			drained(h.drain(draining))
			h.through.Store(true)
		})
	}
	for _, o := range r.old {
		clients.Go(func() {
			work(o.act)
			<-mended
			drained(o.drain(draining))
		})
	}
	for _, c := range r.remotes {
		remotes.Add(1)
		clients.Go(func() {
			work(c.act)
			remotes.Done()
			<-renewed
			drained(c.drain(draining))
		})
	}
	for _, o := range r.operators {
		clients.Go(func() {
			work(o.act)
			<-mended
			hosts.Wait() // from now on none reports that it is unwell
			drained(o.mend(draining))
		})
	}

	r.cluster.faulty.Store(true)
	var faultErr error
	faults.Go(func() { faultErr = r.cluster.torment(working, rng, r.witness) })
	<-working.Done()
	faults.Wait()
	r.cluster.faulty.Store(false)
	settling, cancel := context.WithTimeout(r.ctx, mendTimeout)
	defer cancel()
	err := faultErr
	if err == nil {
		err = r.cluster.settle(settling)
	}
	close(mended)
	remotes.Wait()
	err = cmp.Or(err, r.servers.renew())
	close(renewed)
	if err != nil {
		giveUp()
	}
	timer := time.AfterFunc(r.Patience, giveUp)
	slow := time.AfterFunc(r.Patience/4, func() { r.Logf("somebody still waits: %s", r.waiting()) })
	clients.Wait()
	r.seconds.Wait()
	slow.Stop()
	timer.Stop()
	if err != nil {
		return err
	}
	return r.judge(report)
}

// judge looks at a window that has ended.
func (r *run) judge(report *Report) error {
	ctx, cancel := context.WithTimeout(r.ctx, mendTimeout)
	defer cancel()
	r.history.settle()
	var states []state
	for g, o := range r.operators {
		var s, all output
		if !until(ctx, func() output { s = o.status(); return s }, done) || !until(ctx, func() output { all = o.overview(); return all }, done) {
			return fmt.Errorf("group %d cannot be read: %s", g, s.result)
		}
		states = append(states, state{max: s.seen.max, holders: s.seen.holders, hosts: *all.hosts})
		if s.seen.holders != 0 && len(report.Liveness) == 0 {
			report.Liveness = append(report.Liveness, fmt.Sprintf("group %d still has the holders %s, though all slots were released", g, members(s.seen.holders)))
		}
	}
	left, err := r.leftLeases(ctx)
	if err != nil {
		return err
	}
	if len(left) > 0 && len(report.Liveness) == 0 {
		report.Liveness = append(report.Liveness, fmt.Sprintf("pauses that were replaced or resumed have left %d leases, such as %x", len(left), left[0]))
	}
	newest, err := r.newest(ctx)
	if err != nil {
		return err
	}
	if err := r.witness.await(ctx, newest); err != nil {
		return err
	}
	window := r.history.cut(states)
	report.Windows++
	for _, o := range window {
		if o.carried || o.in.kind == begin || o.err == nil && o.out.result == unknown && !o.in.old {
			continue // it has no answer
		}
		if report.Ops++; o.out.result == unknown {
			report.Unknown++
		}
	}
	checking := time.Now()
	err = check(window, r.Groups)
	report.Checking += time.Since(checking)
	if errors.Is(err, errUndecided) {
		report.Undecided = append(report.Undecided, err.Error())
	} else if err != nil {
		report.History = append(report.History, err.Error())
	}
	for g := range states {
		if err := r.witness.agrees(g, states[g]); err != nil && len(report.Liveness) == 0 {
			r.problem("%v", err)
		}
	}
	r.mu.Lock()
	report.Revisions = append(report.Revisions, r.problems...)
	r.mu.Unlock()
	if report.wrong() {
		r.Logf("the whole window is in %s", r.dump(window))
	}
	r.witness.forget()
	return nil
}

// dump writes a window and its documents to a file, and returns the name of the file.
func (r *run) dump(window []*op) string {
	file, err := os.CreateTemp(r.Dump, "chaos-*.txt")
	if err != nil {
		return err.Error()
	}
	defer file.Close()
	slices.SortFunc(window, func(a, b *op) int { return cmp.Compare(a.call, b.call) })
	for _, o := range window {
		fmt.Fprintf(file, "group %d  %v\n", o.in.group, o)
	}
	r.witness.mu.Lock()
	defer r.witness.mu.Unlock()
	for _, line := range r.witness.log {
		fmt.Fprintln(file, line)
	}
	return file.Name()
}

// newest returns the revision of the last change of an existing key.
func (r *run) newest(ctx context.Context) (int64, error) {
	got, err := r.cluster.admin.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithKeysOnly(),
		clientv3.WithSort(clientv3.SortByModRevision, clientv3.SortDescend), clientv3.WithLimit(1))
	if err != nil || len(got.Kvs) == 0 {
		return 0, fmt.Errorf("read the newest key: %w", cmp.Or(err, errors.New("there is none")))
	}
	return got.Kvs[0].ModRevision, nil
}

// leftLeases returns the leases of long pauses that still exist, although the pauses do not.
func (r *run) leftLeases(ctx context.Context) (left []clientv3.LeaseID, err error) {
	all, err := r.cluster.admin.Leases(ctx)
	if err != nil {
		return nil, fmt.Errorf("list leases: %w", err)
	}
	for _, o := range r.operators {
		for _, l := range all.Leases {
			if slices.Contains(o.tap.long, int64(l.ID)) {
				left = append(left, l.ID)
			}
		}
		o.tap.long = nil
	}
	return left, nil
}

// noLeases waits until all leases have expired, except those of long pauses that no client knows of or that could not
// be revoked.
func (r *run) noLeases(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute) // the lease of a queue entry, and as much again
	defer cancel()
	for {
		left, err := r.shortLeases(ctx)
		if err == nil && len(left) == 0 {
			return nil
		}
		pace(ctx, time.Second)
		if ctx.Err() != nil {
			return fmt.Errorf("leases are left: %x (%v)", left, err)
		}
	}
}

// shortLeases returns the existing leases, except those of long pauses.
func (r *run) shortLeases(ctx context.Context) (left []clientv3.LeaseID, err error) {
	all, err := r.cluster.admin.Leases(ctx)
	if err != nil {
		return nil, err
	}
	for _, l := range all.Leases {
		life, err := r.cluster.admin.TimeToLive(ctx, l.ID)
		if err != nil {
			return nil, err
		}
		if life.GrantedTTL < int64(long/time.Second) {
			left = append(left, l.ID)
		}
	}
	return left, nil
}

// full reports whether the window has enough operations.
func (r *run) full() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.window >= r.WindowOps
}

// count counts an operation, some of whose transactions may have been unanswered.
func (r *run) count(in input, out output, unanswered int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.window++
	r.outcomes[string(in.kind)+" "+string(out.result)]++
	if in.report.pause && unanswered > 0 {
		r.outcomes[lostReport]++
	}
}

// lostReport counts reports of unwell hosts of which a reply was lost.
const lostReport = "report of an unwell host unanswered"

// maxProblems is how many problems are worth reading.
const maxProblems = 20

// problem records a violation.
func (r *run) problem(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.problems) < maxProblems {
		r.problems = append(r.problems, fmt.Sprintf(format, args...))
	}
}

// prefix begins every key. The keys are those of docs/compatibility.md.
const prefix = "coreos.com/updateengine/rebootlock/"

func groupName(g int) string    { return fmt.Sprintf("chaos-%d", g) }
func groupPrefix(g int) string  { return prefix + "groups/" + groupName(g) + "/" }
func semaphoreKey(g int) string { return groupPrefix(g) + "semaphore" }

// split returns the group of a key, or -1, and the rest of the key after the prefix.
func (r *run) split(key string) (g int, rest string) {
	for g := range r.Groups {
		if rest, ok := strings.CutPrefix(key, groupPrefix(g)); ok {
			return g, rest
		}
	}
	return -1, strings.TrimPrefix(key, prefix)
}

func (c *cluster) summary() string {
	total := 0
	for _, n := range c.faults() {
		total += n
	}
	return fmt.Sprintf("%d faults", total)
}
