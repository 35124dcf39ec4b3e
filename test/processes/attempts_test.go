package processes

import (
	"testing"

	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
)

// A host that comes back with the old version says so, and after two such reboots it does not reboot for that version
// any more, also where nothing else stops it: without a lock, and where it gives its slot back nevertheless.
func TestVersionThatDoesNotComeUpIsGivenUp(t *testing.T) {
	t.Parallel()
	g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
	for name, conf := range map[string]string{
		"without a lock": "REBOOT_STRATEGY=reboot\n",
		"with release":   g.conf("LOCKSMITHD_HEALTH_FAILURE=release"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, conf)
			h.write("etc/os-release", "VERSION_ID=4000.0.0\n")
			h.startPending()
			for range 2 {
				h.awaitReboot()
				must.Do(t, h.Halt())
				must.Do(t, h.Boot())
				h.awaitStatus("idle: ", "; the last reboot failed: the host came back with 4000.0.0 instead of 4081.2.0")
				h.announce()
			}
			h.awaitStatus("held back by 2 reboots that did not bring up version 4081.2.0 (the host came back with 4000.0.0 instead of 4081.2.0)")
			h.wantNoReboot()
		})
	}
}
