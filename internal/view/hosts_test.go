package view

import (
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/internal/fleet"
	"github.com/locksmithd/locksmith/internal/inventory"
	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/must"
)

// someFleet is two groups with a host of every kind.
func someFleet() fleet.Fleet {
	says := func(id, version string, state inventory.State, since time.Time, why string) fleet.Host {
		return fleet.Host{Host: &inventory.Host{
			ID: id, Hostname: "web-" + id, OS: "Flatcar", OSVersion: version, Locksmith: "0.8.0", Booted: noon.Add(-48 * time.Hour), Updated: since,
			State: state, Since: since, Why: why,
		}}
	}
	idle := says("1", "4230.2.1", inventory.Idle, noon.Add(-51*time.Hour), "idle: no reboot is needed since Thu 2026-12-31 09:00:00 UTC")
	idle.Last = &inventory.Reboot{Version: "4230.2.1", At: noon.Add(-52 * time.Hour), Took: 90 * time.Second, Well: true}
	waits := says("2", "4152.2.0", inventory.Waiting, noon.Add(-4*time.Hour),
		"waiting since Sat 2027-01-02 08:00:00 UTC for the reboot window, which opens Sun 2027-01-03 04:00:00 UTC")
	waits.WaitsFor, waits.Need = "window", &inventory.Need{Version: "4230.2.1", Since: noon.Add(-4 * time.Hour), Reasons: []string{"update_engine"}}
	waits.Window = &inventory.Window{Start: "Sun 04:00", Length: "1h", Zone: "UTC", Blackout: "2027-12-24"}
	waits.Opens, waits.Shuts = noon.Add(16*time.Hour), noon.Add(17*time.Hour)
	holds := says("3", "4152.2.0", inventory.Rebooting, noon.Add(-42*time.Second), "")
	holds.Slot = &lock.HolderInfo{ID: "3", Record: lock.Record{Since: noon.Add(-time.Minute), By: "locksmithd"}}
	queued := fleet.Host{Host: &inventory.Host{ID: "4", State: inventory.Locking, Why: "waiting for a slot", Since: noon}, NoRecord: true, Place: 1}
	queued.Need = &inventory.Need{}
	failed := says("5", "4152.2.0", inventory.Idle, noon, "idle")
	failed.Last = &inventory.Reboot{At: noon.Add(-time.Hour), Why: "20-etcd: no\x1b quorum"}
	silent := says("6", "4152.2.0", inventory.Preparing, noon.Add(-time.Hour), "checking")
	silent.NoNews = true
	broken := fleet.Host{Host: &inventory.Host{ID: "7\x1b[2J", Broken: true, State: inventory.Unreadable}, NoNews: true}
	hostile := says("8", "\x1b[2J", "\u202eeldi", noon, "<script>\n"+strings.Repeat("é", 3000))
	hostile.Group = "lb"
	return fleet.Fleet{At: noon, Groups: []fleet.Group{
		{Hosts: []fleet.Host{queued, broken, idle, waits, holds, failed, silent}}, {GroupOverview: lock.GroupOverview{Group: "lb"}, Hosts: []fleet.Host{hostile}},
	}}
}

func TestHostsInEveryFormat(t *testing.T) {
	for _, f := range Formats() {
		hosts := HostFilter{}.Hosts(someFleet())
		text, err := Format(f).Hosts(hosts, true, noon)
		must.Do(t, err)
		golden(t, "hosts-"+f+".txt", text)
		one, err := Format(f).Hosts(hosts[:6], false, noon)
		must.Do(t, err)
		golden(t, "hosts-of-a-group-"+f+".txt", one)
		none, err := Format(f).Hosts(nil, true, noon)
		must.Do(t, err)
		if want := map[string]string{"json": "[]\n", "yaml": "[]\n"}[f]; none != want {
			t.Errorf("without a host it is %q, want %q", none, want)
		}
	}
}

func TestFilterOfHosts(t *testing.T) {
	for _, c := range []struct {
		f    HostFilter
		want string
	}{
		{HostFilter{States: []string{"idle"}}, "15"},
		{HostFilter{States: []string{"idle", "waiting"}}, "125"},
		{HostFilter{States: []string{NoNews}}, "76"},
		{HostFilter{States: []string{"unreadable"}}, "7"},
		{HostFilter{Versions: []string{"4230.2.1"}}, "1"},
		{HostFilter{Versions: []string{"4230.2.1", "4152.2.0"}, States: []string{"idle"}}, "15"},
		{HostFilter{Pending: []string{"4230.2.1"}}, "2"},
		{HostFilter{Pending: []string{""}}, ""},
	} {
		got := ""
		for _, h := range c.f.Hosts(someFleet()) {
			got += h.ID[:1]
		}
		if got != c.want {
			t.Errorf("%+v chooses %s, want %s", c.f, got, c.want)
		}
	}
}

func TestSummaryOfHosts(t *testing.T) {
	hosts := HostFilter{}.Hosts(someFleet())
	if got, want := HostSummary(hosts), `8 hosts: 2 idle, 1 \u202eeldi, 1 locking, 1 preparing, 1 rebooting, 1 unreadable, 1 waiting; no news of 2`; got != want {
		t.Errorf("it is %q, want %q", got, want)
	}
	if got, want := HostSummary(hosts[2:3]), "1 host: 1 idle"; got != want {
		t.Errorf("it is %q, want %q", got, want)
	}
	for n := range 30 {
		hosts = append(hosts, &fleet.Host{Host: &inventory.Host{State: inventory.State(strings.Repeat("x", n+1))}})
	}
	if got := HostSummary(hosts); !strings.Contains(got, "and 22 other states") {
		t.Errorf("it is %q", got)
	}
}

func TestScreenOfHostsShowsFirstWhatGoesOn(t *testing.T) {
	w := NewHostsWatch("", true, HostFilter{})
	if got := strings.Join(w.Screen(noon, 80, 10), "\n"); !strings.Contains(got, "asking etcd") {
		t.Errorf("at first it shows %q", got)
	}
	if n := len(w.Observe(someFleet())); n != 8 {
		t.Errorf("%d changes", n)
	}
	later := someFleet()
	for g := range later.Groups {
		for n := range later.Groups[g].Hosts {
			later.Groups[g].Hosts[n].Updated = noon // which nobody has to see
		}
	}
	if changes := w.Observe(later); len(changes) != 0 {
		t.Errorf("nothing has changed, and it says %+v", changes)
	}
	golden(t, "hosts-screen.txt", strings.Join(w.Screen(noon, 100, 40), "\n"))
	golden(t, "hosts-small-screen.txt", strings.Join(w.Screen(noon, 60, 8), "\n"))
	for height := range 12 {
		if got := len(w.Screen(noon, 10, height)); got > max(1, height) {
			t.Errorf("%d lines are drawn on %d", got, height)
		}
	}
}
