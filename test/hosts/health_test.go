package hosts

import (
	"fmt"
	"strings"
	"testing"
)

// awaitUnwell waits until the lock knows that these hosts hold a slot, are unwell with a version, and why. A host
// reports it after its own status says so.
func (f *fleet) awaitUnwell(version, why string, hosts ...*host) {
	f.t.Helper()
	f.awaitHolders(hosts...)
	eventually(f.t, fmt.Sprintf("%d hosts on record as unwell with %s because of %q", len(hosts), version, why), func() bool {
		o := hosts[0].overview()
		for _, h := range hosts {
			held, listed := false, false
			for _, u := range o.Holders {
				held = held || u.ID == h.id && u.Phase == "unwell" && u.Version == version && strings.Contains(u.PhaseWhy, why)
			}
			for _, u := range o.Unwell {
				listed = listed || u.ID == h.id && u.Version == version && strings.Contains(u.Why, why)
			}
			if !held || !listed {
				return false
			}
		}
		return true
	})
}

// greenboot's own unit, but for the program: nothing in it names locksmith.
const greenboot = `[Unit]
Description=greenboot Health Checks Runner
DefaultDependencies=no
Before=boot-complete.target systemd-update-done.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/libexec/greenboot/greenboot check
Restart=no
[Install]
RequiredBy=boot-complete.target
WantedBy=multi-user.target
`

func TestAHostWhoseBootIsNotCompleteKeepsItsSlotUntilItIs(t *testing.T) {
	oncePerRelease(t)
	t.Parallel()
	f, h := startOne(t, "LOCKSMITHD_HEALTH_TIMEOUT=5s")
	h.record()
	h.executable("/usr/libexec/greenboot/greenboot", "[ -e /var/lib/dns-works ] || { echo \"Script '01_repository_dns_check.sh' FAILURE\"; exit 1; }")
	h.service("greenboot-healthcheck.service", greenboot)
	before := h.awaitUp()
	f.wantHeldWhileDown(h)
	h.announce("4081.2.0")
	before = h.awaitReboot(before)
	h.awaitStatus("this host is unwell after its reboot", "boot-complete.target", "greenboot-healthcheck.service")
	f.awaitUnwell("4081.2.0", "greenboot-healthcheck.service", h)
	if n := countRuns(h.hookRuns(), "after-reboot:00-record"); n != 0 {
		t.Errorf("the scripts after the reboot ran %d times although the boot is not complete", n)
	}
	h.do("touch", "/var/lib/dns-works")
	h.awaitStatus("idle")
	f.awaitHolders()
	if o := h.overview(); o.Unwell != nil {
		t.Errorf("a host that has become well is still on record: %+v", o)
	}
	h.wantNoReboot(before)
	h.wantNotDrained()
}

func TestAHostThatRecoversLiftsThePauseThatItCaused(t *testing.T) {
	inOneSuite(t)
	t.Parallel()
	f := startFleet(t, 2, "LOCKSMITHD_HEALTH_TIMEOUT=5s")
	first, second := f.hosts[0], f.hosts[1]
	first.do("locksmithctl", "set-max", "2")
	first.record()
	first.script("after-reboot", "50-member", "[ -e /var/lib/joined ] || { echo no quorum; exit 1; }")
	before, other := first.awaitUp(), second.awaitUp()
	first.announce("4081.2.0")
	first.awaitReboot(before)
	first.awaitStatus("this host is unwell after its reboot; hosts that wait for the same version wait", "50-member: no quorum")
	f.awaitUnwell("4081.2.0", "50-member: no quorum", first)
	second.announce("4081.2.0")
	second.awaitStatus("waiting", "paused for version 4081.2.0", first.name, "50-member: no quorum")
	second.wantNoReboot(other)
	first.do("touch", "/var/lib/joined")
	second.awaitReboot(other)
	first.awaitStatus("idle")
	second.awaitStatus("idle")
	f.awaitHolders()
	first.wantNotDrained()
}

func TestAHostThatCameBackWithItsOldVersionIsUnwellUntilAnAdministratorFreesItsSlot(t *testing.T) {
	inOneSuite(t)
	t.Parallel()
	f := newFleet(t)
	f.add(1)
	h := f.hosts[0]
	h.record()
	h.runs("4081.1.0")
	f.start()
	before := h.awaitUp()
	f.wantHeldWhileDown(h)
	h.announce("4081.2.0")
	before = h.awaitReboot(before)
	const why = "the host came back with 4081.1.0 instead of 4081.2.0"
	h.awaitStatus("this host is unwell after its reboot", why)
	f.awaitUnwell("4081.2.0", why, h)
	h.announce("4081.2.0") // the update is there again
	h.awaitStatus("for version 4081.2.0", "unwell", why)
	h.wantNoReboot(before)
	h.do("locksmithctl", "resume")
	h.do("locksmithctl", "unlock")
	// The administrator has decided that the host may try again.
	h.awaitReboot(before)
	const freed = "somebody has freed the slot of this host, which is not well"
	if journal := h.do("journalctl", "--boot=-1", "--unit=locksmithd", "--output=cat", "--no-pager"); !strings.Contains(journal, freed) {
		t.Errorf("the log of the last boot does not have %q:\n%s", freed, journal)
	}
	h.awaitStatus("unwell", why)
	h.wantNotDrained()
}

func TestAHostStopsAfterTooManyRebootsThatDidNotBringTheVersionUp(t *testing.T) {
	inOneSuite(t)
	t.Parallel()
	f := newFleet(t)
	f.add(1, "LOCKSMITHD_HEALTH_FAILURE=release", "LOCKSMITHD_MAX_ATTEMPTS=2")
	h := f.hosts[0]
	h.record()
	h.runs("4081.1.0")
	f.start()
	boot := h.awaitUp()
	for range 2 {
		h.announce("4081.2.0")
		boot = h.awaitReboot(boot)
		f.awaitHolders()
	}
	h.announce("4081.2.0")
	const why = "2 reboots that did not bring up version 4081.2.0 (the host came back with 4081.1.0 instead of 4081.2.0)"
	h.awaitStatus("held back by "+why, `"locksmithctl unhold" ends that`)
	f.awaitHolders()
	if o := h.overview(); len(o.Queue) > 0 {
		t.Errorf("the host is in the queue: %+v", o)
	}
	h.wantRefused(why)
	h.wantNoReboot(boot)
	h.whileDown = func() { h.runs("4081.2.0") }
	if got := h.do("locksmithctl", "unhold"); !strings.Contains(got, "2 reboots that failed for version 4081.2.0: not counted any more") {
		t.Errorf("locksmithctl unhold prints %q", got)
	}
	h.awaitReboot(boot)
	h.awaitStatus("idle")
	f.awaitHolders()
	if r := h.run("locksmithctl", "unhold"); r.status != 1 {
		t.Errorf("locksmithctl unhold of a host that is well: %+v", r)
	}
	h.wantNotDrained()
}
