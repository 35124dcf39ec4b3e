package realhost

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
)

func TestTheUnitExposesLittle(t *testing.T) {
	t.Parallel()
	h := startHost(t, "REBOOT_STRATEGY=reboot\n")
	h.awaitStatus("idle")
	r := h.run("systemd-analyze", "security", "--no-pager", "--threshold=20", "locksmithd")
	for line := range strings.Lines(r.stdout) {
		if strings.Contains(line, "Overall exposure") {
			t.Log(strings.TrimSpace(line))
		}
	}
	if r.status != 0 {
		t.Errorf("systemd-analyze security finds an exposure above 2.0:\n%s%s", r.stdout, r.stderr)
	}
}

func TestMemoryStaysBelowMemoryHighInTheQueue(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.add(1)
	f.start()
	h := f.hosts[0]
	other := machineID()
	h.do("locksmithctl", "lock", other)
	h.announce("4081.2.0")
	h.awaitStatus("waiting for a slot", "held by "+other)
	h.do("locksmithctl", "status", "-o", "wide")

	high, err := strconv.Atoi(h.unit("locksmithd", "MemoryHigh"))
	must(t, err)
	if high != 32<<20 {
		t.Errorf("MemoryHigh is %d, want %d", high, 32<<20)
	}
	// What is in memory of the process is at least what its control group is charged
	// with, which can be known only where there is a memory controller.
	status := h.do("cat", "/proc/"+h.unit("locksmithd", "MainPID")+"/status")
	m := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindStringSubmatch(status)
	if m == nil {
		t.Fatalf("no VmHWM in %s", status)
	}
	peak, err := strconv.Atoi(m[1])
	must(t, err)
	t.Logf("in the queue: resident set at most %.1f MiB, MemoryCurrent %s", float64(peak)/1024, h.unit("locksmithd", "MemoryCurrent"))
	if peak*1024 > high {
		t.Errorf("the resident set was %d kB, more than MemoryHigh", peak)
	}
	before := h.awaitUp()
	h.do("locksmithctl", "unlock", other)
	h.awaitReboot(before)
}
