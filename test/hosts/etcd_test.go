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

	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/proc"
)

// startEtcd runs an etcd outside of all hosts, on a port of its own and with additional arguments, and returns its
// endpoint.
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
	_, err = proc.Start(cmd) // ends with the tests
	must.Do(t, err)
	return endpoint
}

// shared is the etcd of the tests that do not disturb it; each has a group of its own.
var shared struct {
	sync.Once
	endpoint string
}

// addMembers makes a fleet whose hosts, which are off, each run an etcd.
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

// downtime is a time without a running etcd, from the host's journal. The hosts share one clock.
type downtime struct {
	host     *host
	from, to time.Time
}

// etcdDowntimes returns the downtimes of the etcd of each host, in order: from the stop of its service until it
// has started again.
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

// writer writes to etcd continuously until stop, and measures how long writes fail.
type writer struct {
	stop    context.CancelFunc
	done    chan struct{}
	writes  int
	longest time.Duration // between two successful writes
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
