package hosts

import (
	"encoding/json"
	"testing"

	"github.com/locksmithd/locksmith/test/must"
)

// What a host says of itself is there after a real reboot, with what that came to.
func TestFleetKnowsWhatAHostHasRebootedFor(t *testing.T) {
	inOneSuite(t)
	t.Parallel()
	f, h := startOne(t)
	before := h.awaitUp()
	h.announce("4081.2.0")
	h.awaitReboot(before)
	f.awaitHolders()
	var hosts []struct {
		ID, Hostname, State string
		LastReboot          *struct {
			Version string
			Seconds float64 `json:"took_seconds"`
			Well    bool
		} `json:"last_reboot"`
	}
	eventually(t, "the record of the host after its reboot", func() bool {
		must.Do(t, json.Unmarshal([]byte(h.do("locksmithctl", "hosts", "-o", "json")), &hosts))
		return len(hosts) == 1 && hosts[0].State == "idle" && hosts[0].LastReboot != nil
	})
	if r := hosts[0]; r.ID != h.id || r.Hostname == "" || !r.LastReboot.Well || r.LastReboot.Version != "4081.2.0" || r.LastReboot.Seconds <= 0 {
		t.Errorf("the host says %+v, and of its last reboot %+v", r, r.LastReboot)
	}
}
