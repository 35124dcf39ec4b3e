package hosts

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/proc"
)

// startEtcd runs an etcd outside of all hosts, with more arguments, and returns its
// endpoint, which has a port of its own.
func startEtcd(t testing.TB, scheme string, port int, args ...string) string {
	t.Helper()
	endpoint := fmt.Sprintf("%s://%s.0.1:%d", scheme, network, port)
	peer := fmt.Sprintf("http://127.0.0.1:%d", port+1)
	log, err := os.Create(fmt.Sprintf("%s/etcd-%d.log", scratch, port))
	must.Do(t, err)
	defer log.Close()
	cmd := exec.Command("../../bin/etcd", append([]string{
		fmt.Sprintf("--data-dir=%s/etcd-%d", scratch, port),
		"--listen-client-urls=" + endpoint, "--advertise-client-urls=" + endpoint,
		"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer, "--initial-cluster=default=" + peer,
	}, args...)...)
	cmd.Env = []string{} // etcd takes flags from ETCD_* variables
	cmd.Stdout, cmd.Stderr = log, log
	_, err = proc.Start(cmd) // it ends with the tests
	must.Do(t, err)
	return endpoint
}

// shared is the etcd of all tests that do nothing to it; each has a group of its own.
var shared struct {
	sync.Once
	endpoint string
}

// fleet is a group of hosts with one lock, seen from outside.
type fleet struct {
	t         testing.TB
	group     string
	endpoints []string
	client    *clientv3.Client
	hosts     []*host
}

// newFleet returns a fleet without hosts, whose lock is in the etcd that all tests share.
func newFleet(t testing.TB) *fleet {
	t.Helper()
	shared.Do(func() { shared.endpoint = startEtcd(t, "http", 2379) })
	return newFleetAt(t, shared.endpoint)
}

func newFleetAt(t testing.TB, endpoints ...string) *fleet {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: endpoints, Logger: zap.NewNop()})
	must.Do(t, err)
	t.Cleanup(func() { client.Close() })
	return &fleet{t: t, group: "fleet-" + machineID()[:12], endpoints: endpoints, client: client}
}

// conf is update.conf for the hosts of the fleet.
func (f *fleet) conf(more ...string) string {
	return fmt.Sprintf("REBOOT_STRATEGY=etcd-lock\nLOCKSMITHD_GROUP=%s\nLOCKSMITHD_ENDPOINT=%s\n%s\n",
		f.group, strings.Join(f.endpoints, ","), strings.Join(more, "\n"))
}

// add makes hosts of the fleet, which are off.
func (f *fleet) add(n int, more ...string) {
	f.t.Helper()
	for range n {
		f.hosts = append(f.hosts, newHost(f.t, f.conf(more...)))
	}
}

// start switches all hosts on, and waits until they are up and idle.
func (f *fleet) start() {
	f.t.Helper()
	for _, h := range f.hosts {
		h.powerOn()
	}
	for _, h := range f.hosts {
		h.awaitUp()
		h.awaitStatus("idle")
	}
}

// semaphore is the document in etcd.
type semaphore struct {
	Free    int      `json:"semaphore"`
	Max     int      `json:"max"`
	Holders []string `json:"holders"`
}

// read returns the document, the zero one if there is none.
func (f *fleet) read() (semaphore, error) {
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	r, err := f.client.Get(ctx, "coreos.com/updateengine/rebootlock/groups/"+f.group+"/semaphore")
	if err != nil || len(r.Kvs) == 0 {
		return semaphore{}, err
	}
	var s semaphore
	return s, json.Unmarshal(r.Kvs[0].Value, &s)
}

// awaitHolders waits until exactly these hosts hold a slot.
func (f *fleet) awaitHolders(holders ...*host) {
	f.t.Helper()
	var want []string
	for _, h := range holders {
		want = append(want, h.id)
	}
	slices.Sort(want)
	var got semaphore
	must.Eventually(f.t, patience, fmt.Sprintf("the holders %v", want), func() bool {
		var err error
		got, err = f.read()
		must.Do(f.t, err)
		return slices.Equal(got.Holders, want)
	})
}

// others are the hosts of the fleet but one.
func (f *fleet) others(but *host) []*host {
	return slices.DeleteFunc(slices.Clone(f.hosts), func(h *host) bool { return h == but })
}

// running tells whether the host is powered and not between two boots.
func (h *host) running() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.off && len(h.boots) > 0 && h.boots[len(h.boots)-1].nspawn.Running()
}

// witness looks at the fleet whenever one of its hosts is down, and keeps what was wrong.
type witness struct {
	mu    sync.Mutex
	order []string
	wrong []string
}

// oneAtATime has the witness look for a host that is down without a slot, or at the
// same time as another one. also, if not nil, is run while a host is down.
func (f *fleet) oneAtATime(also func(h *host) error) *witness {
	w := &witness{}
	for _, h := range f.hosts {
		h.whileDown = func() {
			var wrong []string
			if s, err := f.read(); err != nil {
				wrong = append(wrong, fmt.Sprintf("read the semaphore while %s is down: %v", h.name, err))
			} else if !slices.Equal(s.Holders, []string{h.id}) {
				wrong = append(wrong, fmt.Sprintf("%s, %s, is down and the holders are %v", h.name, h.id, s.Holders))
			}
			for _, other := range f.others(h) {
				if !other.running() {
					wrong = append(wrong, other.name+" is down together with "+h.name)
				}
			}
			if also != nil {
				if err := also(h); err != nil {
					wrong = append(wrong, fmt.Sprintf("while %s is down: %v", h.name, err))
				}
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			w.order, w.wrong = append(w.order, h.name), append(w.wrong, wrong...)
		}
	}
	return w
}

// roll has every host need a reboot, and waits until all have rebooted and no slot is held.
func (f *fleet) roll() {
	f.t.Helper()
	var before []*boot
	for _, h := range f.hosts {
		before = append(before, h.awaitUp())
	}
	for _, h := range f.hosts {
		h.announce("4081.2.0")
	}
	for i, h := range f.hosts {
		h.awaitReboot(before[i])
	}
	f.awaitHolders()
}

func (w *witness) check(t testing.TB, reboots int) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	t.Logf("rebooted, in this order: %v", w.order)
	for _, wrong := range w.wrong {
		t.Error(wrong)
	}
	if len(w.order) != reboots {
		t.Errorf("there were %d reboots, want %d", len(w.order), reboots)
	}
}

// addMembers makes hosts of the fleet with an etcd on each of them, which are off.
func addMembers(t testing.TB, n int, more ...string) *fleet {
	t.Helper()
	var members []*host
	var endpoints, cluster []string
	for range n {
		h := newHost(t, "")
		members = append(members, h)
		endpoints = append(endpoints, "http://"+h.address+":2379")
		cluster = append(cluster, fmt.Sprintf("%s=http://%s:2380", h.name, h.address))
	}
	f := newFleetAt(t, endpoints...)
	f.hosts = members
	for i, h := range members {
		h.write("/etc/flatcar/update.conf", f.conf(more...))
		h.write("/etc/etcd.env", fmt.Sprintf(`ETCD_NAME=%s
ETCD_DATA_DIR=/var/lib/etcd
ETCD_LOG_LEVEL=warn
ETCD_LISTEN_CLIENT_URLS=%[2]s
ETCD_ADVERTISE_CLIENT_URLS=%[2]s
ETCD_LISTEN_PEER_URLS=http://%[3]s:2380
ETCD_INITIAL_ADVERTISE_PEER_URLS=http://%[3]s:2380
ETCD_INITIAL_CLUSTER=%[4]s
`, h.name, endpoints[i], h.address, strings.Join(cluster, ",")))
	}
	return f
}

// downtime is when an etcd did not serve, from the host's journal. The hosts have one clock.
type downtime struct {
	host     *host
	from, to time.Time
}

// etcdDowntimes returns when the etcd of each host was down, in order: from the moment
// that its service was to stop until it had started again.
func (f *fleet) etcdDowntimes() []downtime {
	f.t.Helper()
	const started, stopping = "39f53479d3a045ac8e11786248231fbf", "de5b426a63be47a7b6ac3eaac82e2f6f" // sd-messages.h
	var all []downtime
	for _, h := range f.hosts {
		h.syncJournal()
		var stopped time.Time
		for line := range strings.Lines(h.do("journalctl", "--unit=etcd", "--output=json", "MESSAGE_ID="+started, "MESSAGE_ID="+stopping)) {
			var entry struct {
				ID   string `json:"MESSAGE_ID"`
				Time string `json:"_SOURCE_REALTIME_TIMESTAMP"`
			}
			must.Do(f.t, json.Unmarshal([]byte(line), &entry))
			µs, err := strconv.ParseInt(entry.Time, 10, 64)
			must.Do(f.t, err)
			switch at := time.UnixMicro(µs); {
			case entry.ID == stopping:
				stopped = at
			case !stopped.IsZero():
				all = append(all, downtime{h, stopped, at})
			}
		}
	}
	slices.SortFunc(all, func(a, b downtime) int { return a.from.Compare(b.from) })
	return all
}

// writer writes to etcd all the time, until stop, and measures how long it is refused.
type writer struct {
	stop    context.CancelFunc
	done    chan struct{}
	writes  int
	longest time.Duration // from one write that succeeded to the next one
}

func (f *fleet) write() *writer {
	ctx, stop := context.WithCancel(f.t.Context())
	w := &writer{stop: stop, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		last := time.Now()
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			<-tick.C
			try, cancel := context.WithTimeout(ctx, time.Second)
			_, err := f.client.Put(try, "written", time.Now().String())
			cancel()
			if err == nil {
				w.longest = max(w.longest, time.Since(last))
				w.writes++
				last = time.Now()
			}
		}
	}()
	return w
}
