package metrics

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/locksmithd/locksmith/internal/fleet"
	"github.com/locksmithd/locksmith/internal/inventory"
	"github.com/locksmithd/locksmith/internal/safetext"
)

const (
	// other stands for whatever has no series of its own, and unknown for what is not known.
	other, unknown = "other", "unknown"
	// mostVersions is how many versions of a group have series of their own.
	mostVersions = 20
)

// states are those that have series of their own.
var states = append(fleet.States(), other)

// gauge describes a gauge.
func gauge(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(namespace+"_"+name, help, labels, nil)
}

var (
	info        = gauge("serve_info", "The version of locksmithctl serve; always 1.", "version")
	etcdUp      = gauge("etcd_up", "Whether the fleet could be read from etcd at this scrape, or has not changed since it was read.")
	readAt      = gauge("fleet_read_timestamp_seconds", "When the fleet that the metrics are about was read from etcd, in seconds since 1970.")
	connections = gauge("http_connections", "Connections to the server.")
	mostConns   = gauge("http_connections_max", "Connections to the server that may be open at once.")
	waiting     = gauge("fleetlock_requests_waiting", "FleetLock requests that are held open until a slot is free.")
	refusedConn = gauge("http_connections_refused_total", "Connections that were closed because too many came from their address or network.")

	hosts        = gauge("fleet_hosts", "Hosts in this state.", "group", "state")
	osVersions   = gauge("fleet_os_version_hosts", "Hosts that run this version of their operating system; the 20 most frequent ones, and other.", "group", "os_version")
	versions     = gauge("fleet_locksmithd_version_hosts", "Hosts that run this version of locksmithd; the 20 most frequent ones, and other.", "group", "version")
	blocked      = gauge("fleet_blocked_hosts", "Hosts that need a reboot, and are held back for this reason.", "group", "reason")
	need         = gauge("fleet_reboot_needed_hosts", "Hosts that need a reboot.", "group")
	oldestNeed   = gauge("fleet_oldest_reboot_needed_timestamp_seconds", "When the host that has needed a reboot for longest began to need it, in seconds since 1970; only if one needs it.", "group")
	noNews       = gauge("fleet_no_news_hosts", "Hosts whose record is out of date.", "group")
	slots        = gauge("fleet_slots", "Number of slots.", "group")
	held         = gauge("fleet_slots_held", "Slots that are held.", "group")
	oldestHolder = gauge("fleet_oldest_holder_timestamp_seconds", "When the slot that has been held for longest was taken, in seconds since 1970; only if one is held, and that is known.", "group")
	queue        = gauge("fleet_queue_hosts", "Hosts in the queue for a slot.", "group")
	paused       = gauge("fleet_paused", "Whether an administrator has paused reboots of the group, or of all groups.", "group")
	versionPause = gauge("fleet_paused_versions", "Versions that are paused because a host is not well after its reboot for them.", "group")
	broken       = gauge("fleet_lock_unreadable", "Whether the lock of the group cannot be understood.", "group")
)

// fleetGauges makes gauges of a fleet.
type fleetGauges struct {
	seen  fleet.Seen
	names map[string]string // how clients call the groups that are shown, by the group of the lock
	more  func(add func(d *prometheus.Desc, value float64, labels ...string))
}

// Describe implements prometheus.Collector.
func (fleetGauges) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		info, etcdUp, readAt, connections, mostConns, waiting, refusedConn, hosts, osVersions, versions, blocked, need, oldestNeed, noNews,
		slots, held, oldestHolder, queue, paused, versionPause, broken,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (f fleetGauges) Collect(ch chan<- prometheus.Metric) {
	add := func(d *prometheus.Desc, value float64, labels ...string) {
		kind := prometheus.GaugeValue
		if d == refusedConn {
			kind = prometheus.CounterValue
		}
		ch <- prometheus.MustNewConstMetric(d, kind, value, labels...)
	}
	f.more(add)
	add(etcdUp, truth(f.seen.Err == nil))
	if f.seen.At.IsZero() {
		return
	}
	add(readAt, float64(f.seen.At.Unix()))
	for _, g := range f.seen.Groups {
		if name, shown := f.names[g.Group]; shown {
			group(g, safetext.Clean(name), add)
		}
	}
}

// group adds the gauges of a group.
func group(g fleet.Group, name string, add func(d *prometheus.Desc, value float64, labels ...string)) {
	byState, byOS, byVersion, byReason := map[string]int{}, map[string]int{}, map[string]int{}, map[string]int{}
	needing, without := 0, 0
	var first, taken time.Time
	for _, h := range g.Hosts {
		byState[one(string(h.State), states)]++
		byOS[cmp.Or(h.OSVersion, unknown)]++
		byVersion[cmp.Or(h.Locksmith, unknown)]++
		if h.NoNews {
			without++
		}
		if h.Need != nil {
			needing++
			first = earlier(first, h.Need.Since)
			if h.WaitsFor != "" {
				byReason[one(h.WaitsFor, inventory.Reasons)]++
			}
		}
	}
	for _, state := range states {
		add(hosts, float64(byState[state]), name, state)
	}
	for _, reason := range append(slices.Clone(inventory.Reasons), other) {
		add(blocked, float64(byReason[reason]), name, reason)
	}
	for version, n := range mostFrequent(byOS) {
		add(osVersions, float64(n), name, version)
	}
	for version, n := range mostFrequent(byVersion) {
		add(versions, float64(n), name, version)
	}
	add(need, float64(needing), name)
	at(add, oldestNeed, first, name)
	add(noNews, float64(without), name)
	add(broken, truth(g.Err != nil), name)
	if g.Err != nil { // the lock says nothing
		return
	}
	for _, h := range g.Holders {
		taken = earlier(taken, h.Record.Since)
	}
	add(slots, float64(g.Semaphore.Max), name)
	add(held, float64(len(g.Holders)), name)
	at(add, oldestHolder, taken, name)
	add(queue, float64(len(g.Queue)), name)
	add(paused, truth(g.Pause != nil), name)
	add(versionPause, float64(len(g.VersionPauses())), name)
}

// one returns a text if it has a series of its own.
func one(text string, of []string) string {
	if slices.Contains(of, text) {
		return text
	}
	return other
}

// mostFrequent returns the most frequent texts, and the sum of the others.
func mostFrequent(counts map[string]int) map[string]int {
	texts := slices.SortedFunc(maps.Keys(counts), func(a, b string) int { return cmp.Or(counts[b]-counts[a], cmp.Compare(a, b)) })
	most := map[string]int{}
	for i, text := range texts {
		if i < mostVersions {
			most[text] += counts[text]
		} else {
			most[other] += counts[text]
		}
	}
	return most
}

// earlier returns the earlier one of two times, of which the zero one is not known.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func at(add func(d *prometheus.Desc, value float64, labels ...string), d *prometheus.Desc, t time.Time, labels ...string) {
	if !t.IsZero() {
		add(d, float64(t.Unix()), labels...)
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
