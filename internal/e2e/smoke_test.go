package e2e

import (
	"testing"

	"github.com/locksmithd/locksmith/internal/etcdtest"
)

func TestSmoke(t *testing.T) {
	h := startHost(t, "REBOOT_STRATEGY=reboot\n")
	h.awaitIdle()
	h.announce()
	t.Logf("%+v", h.awaitReboot())
}

func TestSmokeLock(t *testing.T) {
	forEachEtcd(t, func(t *testing.T, s *etcdtest.Server) {
		g := newGroup(t, s)
		h := startHost(t, g.conf())
		h.awaitIdle()
		h.announce()
		h.awaitReboot()
		g.awaitHolders(h.id)
		must(t, h.Halt())
		must(t, h.Boot())
		g.awaitHolders()
		h.awaitIdle()
		t.Log(h.Log())
	})
}
