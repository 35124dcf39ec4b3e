package processes

import (
	"os"
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/simhost"
)

const productUUID = "sys/class/dmi/id/product_uuid"

// holdAs makes a host with a name and, unless it is "", a hardware UUID, and makes it reboot: it is about to go
// down, and holds a slot.
func holdAs(t *testing.T, g *group, name, uuid string) *host {
	t.Helper()
	h := newHost(t, g.conf())
	must.Do(t, h.Rename(name))
	if uuid != "" {
		h.write(productUUID, uuid+"\n")
	}
	h.startPending()
	h.awaitReboot()
	g.awaitHolders(h.id)
	return h
}

func TestHostRenamedByItsRebootReleasesItsSlot(t *testing.T) {
	t.Parallel()
	for what, test := range map[string]struct {
		uuid     string
		volatile bool // /var is empty after the reboot
	}{
		"VM":                             {uuid: "4c4c4544-0034-4a10-8053-b7c04f4e3332"},
		"board with a disk":              {},
		"host that boots from a network": {uuid: "4c4c4544-0034-4a10-8053-b7c04f4e3332", volatile: true},
		"VM without a UUID":              {uuid: "00000000-0000-0000-0000-000000000000"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			forEachEtcd(t, func(t *testing.T, s *etcdtest.Server) {
				g := newGroup(t, s)
				h := holdAs(t, g, "web-1", test.uuid)
				must.Do(t, h.Halt())
				must.Do(t, h.Rename("web-1.example.com"))
				if test.volatile {
					must.Do(t, os.RemoveAll(h.Path("var")))
				}
				must.Do(t, h.Boot())
				g.awaitHolders()
				h.awaitIdle()
			})
		})
	}
}

// locksmithctl recognizes the renamed host too.
func TestRenamedHostIsUnlockedByHand(t *testing.T) {
	t.Parallel()
	g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
	h := holdAs(t, g, "web-1", "")
	must.Do(t, h.Halt())
	must.Do(t, h.Rename("web-1.example.com"))
	h.write("proc/sys/kernel/random/boot_id", "the-next\n")
	h.ctl("unlock")
	g.awaitHolders()
}

// Neither hardware nor disk is known. The message says that only the names were compared, and what to do.
func TestRenamedHostWithoutOtherIdentityCountsAsAnother(t *testing.T) {
	t.Parallel()
	g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
	h := holdAs(t, g, "web-1", "")
	must.Do(t, h.Halt())
	must.Do(t, h.Rename("web-1.example.com"))
	must.Do(t, os.RemoveAll(h.Path("var")))
	must.Do(t, h.Boot())
	h.awaitStatus("this is web-1.example.com, but web-1 has the lock or waits for it, and they differ in name;", "unlock "+h.id)
	g.wantHeldThroughout(h.id)
	h.ctl("unlock", h.id)
	h.awaitIdle()
}

// A host was made from the image of another, or is a copy of its disk. The daemon, and the commands that act on
// this host, leave the slot of the other host alone.
func TestCloneLeavesTheSlotAlone(t *testing.T) {
	t.Parallel()
	for what, test := range map[string]struct {
		name, uuid, apart string
		disk              bool // is a copy from the time of an earlier slot
	}{
		"with the name of the image": {"web-1", "2b7e1516-28ae-4d2a-abf7-158809cf4f3c", "hardware", false},
		"with a name of its own":     {"web-2", "2b7e1516-28ae-4d2a-abf7-158809cf4f3c", "hardware and name", false},
		"on the same kind of board":  {"web-2", "4c4c4544-0034-4a10-8053-b7c04f4e3332", "disk and name", true},
		"with nothing to know it by": {"web-2", "", "name", false},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
			h := holdAs(t, g, "web-1", "4c4c4544-0034-4a10-8053-b7c04f4e3332")
			tokens, err := os.ReadFile(h.Path("var/lib/locksmith/token"))
			must.Do(t, err)
			h.reboot()
			g.awaitHolders()
			h.awaitIdle()
			h.announce()
			h.awaitReboot()
			g.awaitHolders(h.id)

			clone := newHost(t, g.conf(), func(o *simhost.Options) { o.MachineID = h.id })
			must.Do(t, clone.Rename(test.name))
			if test.uuid != "" {
				clone.write(productUUID, test.uuid+"\n")
			}
			if test.disk {
				clone.write("var/lib/locksmith/token", string(tokens))
			}
			clone.startPending()
			clone.awaitStatus("two hosts have the machine id "+h.id, "this is "+test.name, "but web-1 has", "they differ in "+test.apart+";")
			for _, command := range []string{"lock", "unlock"} {
				if r := clone.run(locksmithctl(), command); r.status != 1 || !strings.Contains(r.stderr, "they differ in "+test.apart+";") {
					t.Errorf("locksmithctl %s there: %+v", command, r)
				}
			}
			clone.wantNoReboot()
			g.awaitHolders(h.id)
			h.reboot()
			g.awaitHolders(h.id)
			clone.awaitReboot()
		})
	}
}

// A disk that cannot be written costs the token, with a warning.
func TestHostThatCannotWriteATokenReboots(t *testing.T) {
	t.Parallel()
	g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
	h := newHost(t, g.conf())
	h.write("var/lib/locksmith", "in the place of the folder")
	h.startPending()
	h.awaitReboot()
	h.awaitLog("level=WARN", "a reboot that renames this host", "var/lib/locksmith")
	h.reboot()
	g.awaitHolders()
	h.awaitIdle()
}
