package hosts

import (
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/locksmithd/locksmith/test/contains"
)

// The versions of a rollout that goes wrong.
const (
	oldVersion = "4081.1.0"
	badVersion = "4081.2.0"
	fixVersion = "4081.2.1"
)

// rejects makes a host that is unwell with the bad version.
func (h *host) rejects() {
	h.t.Helper()
	h.record()
	h.runs(oldVersion)
	h.script("after-reboot", "50-check", ". /etc/os-release\n[ $VERSION_ID != "+badVersion+" ] || { echo it does not serve; exit 1; }")
}

// wantLeft fails unless so many hosts are on record that were unwell with the bad version and have left it. Only hosts
// that would reboot for this very version wait then.
func (h *host) wantLeft(want int) {
	h.t.Helper()
	o := h.overview()
	for _, u := range o.Unwell {
		if u.Version != badVersion || !u.Left {
			h.t.Errorf("a host that runs the fix is on record as %+v", u)
		}
	}
	if len(o.Unwell) != want {
		h.t.Errorf("%d hosts are on record as unwell, want %d: %+v", len(o.Unwell), want, o.Unwell)
	}
}

func TestThreeHostsWithABadVersionKeepTheirSlotsUntilTheFixIsThere(t *testing.T) {
	inOneSuite(t)
	t.Parallel()
	f := newFleet(t)
	f.add(3, "LOCKSMITHD_HEALTH_TIMEOUT=5s")
	for _, h := range f.hosts {
		h.rejects()
	}
	f.start()
	f.hosts[0].do("locksmithctl", "set-max", "3")
	// Each stays down until all are, since the first one to be up again pauses the version.
	var all sync.WaitGroup
	all.Add(3)
	var before []*boot
	for _, h := range f.hosts {
		before = append(before, h.awaitUp())
		h.update(badVersion, func() {
			all.Done()
			all.Wait()
		})
	}
	for i, h := range f.hosts {
		before[i] = h.awaitReboot(before[i])
	}
	for _, h := range f.hosts {
		h.awaitStatus("this host is unwell after its reboot; hosts that wait for the same version wait", "50-check: it does not serve")
	}
	f.awaitUnwell(badVersion, "50-check: it does not serve", f.hosts...)
	h := f.hosts[0]
	r := h.run("locksmithctl", "status")
	if !strings.HasPrefix(r.stdout, "Available: 0\nMax: 3\n") || !contains.All(r.stderr, "paused for version "+badVersion, "is unwell, and 2 more: ", "50-check: it does not serve") {
		t.Errorf("locksmithctl status: %+v", r)
	}
	wide := h.do("locksmithctl", "status", "-o", "wide")
	t.Logf("a fleet with a bad version:\n%s%s\n%s", r.stdout, r.stderr, wide)
	if n := strings.Count(wide, "it does not serve"); n < 6 {
		t.Errorf("locksmithctl status -o wide says %d times what is wrong:\n%s", n, wide)
	}

	// No slot is free, and none is needed.
	for _, h := range f.hosts {
		h.update(fixVersion, nil)
	}
	for i, h := range f.hosts {
		h.awaitReboot(before[i])
		h.awaitStatus("idle")
	}
	f.awaitHolders()
	h.wantLeft(3)
	if got := h.do("locksmithctl", "resume"); !contains.All(got, "Was paused: version "+badVersion, "50-check: it does not serve") {
		t.Errorf("locksmithctl resume prints %q", got)
	}
	h.wantLeft(0)
	for _, h := range f.hosts {
		h.wantNotDrained()
	}
}

func TestTheFixReachesTheSickHostAndThoseThatWaitForIt(t *testing.T) {
	inOneSuite(t)
	t.Parallel()
	f := newFleet(t)
	f.add(2, "LOCKSMITHD_HEALTH_TIMEOUT=5s")
	sick, other := f.hosts[0], f.hosts[1]
	for _, h := range f.hosts {
		h.rejects()
	}
	f.start()
	sick.do("locksmithctl", "set-max", "2")
	sickBoot, otherBoot := sick.awaitUp(), other.awaitUp()
	sick.update(badVersion, nil)
	sickBoot = sick.awaitReboot(sickBoot)
	sick.awaitStatus("this host is unwell after its reboot; hosts that wait for the same version wait")
	f.awaitUnwell(badVersion, "50-check: it does not serve", sick)

	other.update(badVersion, nil)
	other.awaitStatus("for version "+badVersion, "paused for version "+badVersion, sick.name)
	other.wantRefused("paused for version " + badVersion)
	other.wantNoReboot(otherBoot)
	other.update(fixVersion, nil)
	otherBoot = other.awaitReboot(otherBoot)
	other.awaitStatus("idle")
	f.awaitUnwell(badVersion, "50-check: it does not serve", sick)

	sick.update(fixVersion, func() {
		if s, err := f.read(); err != nil || !slices.Equal(s.Holders, []string{sick.id}) {
			t.Errorf("while the sick host is down the semaphore is %+v, %v", s, err)
		}
	})
	sick.awaitReboot(sickBoot)
	sick.awaitStatus("idle")
	f.awaitHolders()
	sick.wantLeft(1)
	other.wantNoReboot(otherBoot)
	for _, h := range f.hosts {
		h.wantNotDrained()
	}
}
