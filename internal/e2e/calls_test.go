package e2e

import (
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/internal/bustest"
	"github.com/locksmithd/locksmith/internal/etcdtest"
)

// Any local user can make logind's list of inhibitors too long to be read. That hides whose
// inhibitor it is, and does not let it hold the host back past the deadline.
func TestDeadlineEndsAnInhibitorThatOthersHide(t *testing.T) {
	t.Parallel()
	g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
	h := newHost(t, g.conf()+"LOCKSMITHD_MAX_POSTPONE=10s\n")
	crowd := make([]bustest.Inhibitor, 200)
	for i := range crowd {
		crowd[i] = bustest.Inhibitor{Who: "mallory", Why: strings.Repeat("x", 2000), Mode: "delay", UID: 1000}
	}
	h.Logind.SetInhibitors(append(crowd, someBackup)...)
	h.Engine.Set(needReboot)
	h.start()
	h.awaitStatus("held back by", "logind does not list who", "block inhibitor", "users and inhibitors can postpone it until")
	h.wantNoReboot()
	h.awaitReboot()
	g.wantHeldThroughout(h.id)
}
