package chaos

import (
	"fmt"
	"slices"

	"github.com/locksmithd/locksmith/lock"
)

// versions are what hosts reboot for; the first is one that is not known.
var versions = []string{"", "4230.2.0", "4230.2.1"}

// maxClients is how many clients of a group a state has room for, operators aside.
const maxClients = 10

// about is what etcd has about one host besides its slot, as far as it counts for pauses of versions.
type about struct {
	record record
	unwell unwell
}

// record is the record of a slot; the zero one where there is none.
type record struct {
	version uint8 // an index of versions
	boot    uint16
	booted  bool // the host has said that it has been up since the reboot
	remote  bool // a FleetLock server has taken the slot
}

// unwell is the entry of a host among the unwell ones.
type unwell struct {
	there         bool
	version       uint8
	boot          uint16
	resumed, left bool
}

// told is what a host reports.
type told struct {
	phase        lock.Phase
	pause, again bool
	version      uint8 // with again
}

func (t told) String() string {
	s := string(t.phase)
	if t.pause {
		s += ", pauses"
	}
	if t.again {
		s += fmt.Sprintf(", again for %q", versions[t.version])
	}
	return s
}

// booted reports whether a host in that phase has been up since its reboot.
func booted(p lock.Phase) bool { return p == lock.Checking || p == lock.Unwell || p == lock.Delaying }

// force reports whether the entry pauses any version.
func (u unwell) force() bool { return u.there && !u.resumed }

// pauses reports whether the entry pauses a version.
func (u unwell) pauses(version uint8) bool {
	return u.force() && (u.version == version || !u.left && (u.version == 0 || version == 0))
}

// resume is the entry after a Resume.
func (u unwell) resume() unwell {
	if u.left {
		return unwell{}
	}
	u.resumed = true
	return u
}

// well is the entry after its host was found well, in a boot, with a slot that has this record.
func (u unwell) well(r record, boot uint16) unwell {
	if u.resumed || u.boot == boot || u.version == r.version {
		return unwell{}
	}
	u.left = u.there
	return u
}

// reported is what etcd has after the report of a host in a boot.
func (a about) reported(t told, boot uint16) about {
	u, was := &a.unwell, a.record
	if t.again {
		a.record = record{version: t.version, boot: boot}
	}
	a.record.booted = booted(t.phase)
	same := u.there && u.boot == boot
	switch {
	case t.phase == lock.Delaying:
		*u = u.well(was, boot)
	case t.phase == lock.Unwell && t.pause && same && u.resumed: // by Resume, for this boot
	case t.phase == lock.Unwell && t.pause && same:
		u.left = false
	case t.phase == lock.Unwell && t.pause:
		*u = unwell{there: true, version: was.version, boot: boot}
	case t.phase == lock.Unwell && same && !u.resumed:
		*u = unwell{}
	case t.again && u.there && u.version != t.version:
		u.left = true
	}
	return a
}

// pausedFor reports whether a version is paused.
func (s state) pausedFor(version uint8) bool {
	return slices.ContainsFunc(s.hosts[:], func(a about) bool { return a.unwell.pauses(version) })
}

// released is the state after the host of an operation, which is well, has released its slot.
func (s state) released(in input) state {
	after := s.without(in.id)
	if a := s.hosts[in.id]; a.record.boot != in.boot || a.record.booted {
		after.hosts[in.id].unwell = a.unwell.well(a.record, in.boot)
	}
	return after
}

// resumed is the state after a Resume for a set of hosts. possible says that each of them paused a version.
func (s state) resumed(hosts uint64) (after state, possible bool) {
	possible = true
	for id := range s.hosts {
		if hosts&(1<<id) != 0 {
			possible = possible && s.hosts[id].unwell.force()
			s.hosts[id].unwell = s.hosts[id].unwell.resume()
		}
	}
	return s, possible
}

// newUnwell is an entry as it is in etcd.
func newUnwell(u lock.UnwellHost) (unwell, error) {
	version := slices.Index(versions, u.Version)
	boot, err := bootNumber(u.BootID)
	if err != nil || u.Broken || version < 0 || u.Why == "" || u.Since.IsZero() {
		return unwell{}, fmt.Errorf("an entry of an unwell host that no host writes: %+v (%w)", u, err)
	}
	return unwell{true, uint8(version), boot, u.Resumed, u.Left}, nil
}

// newRecord is a record as it is in etcd.
func newRecord(r lock.Record) (record, error) {
	if r.Remote {
		want := lock.Record{Hostname: "127.0.0.1", By: "fleetlock", Since: r.Since, Remote: true}
		if r != want || r.Since.IsZero() {
			return record{}, fmt.Errorf("a record that no FleetLock server writes: %+v", r)
		}
		return record{remote: true}, nil
	}
	version := slices.Index(versions, r.Version)
	boot, err := bootNumber(r.BootID)
	if err != nil || version < 0 || r.Phase == "" != r.PhaseSince.IsZero() {
		return record{}, fmt.Errorf("a record that no host writes: %+v (%w)", r, err)
	}
	return record{version: uint8(version), boot: boot, booted: booted(r.Phase)}, nil
}

func bootID(n int) string { return fmt.Sprintf("boot-%d", n) }

func bootNumber(id string) (uint16, error) {
	var n uint16
	if _, err := fmt.Sscanf(id, "boot-%d", &n); err != nil || bootID(int(n)) != id {
		return 0, fmt.Errorf("%q is not the id of a boot", id)
	}
	return n, nil
}

// describeHosts lists what is known about hosts, by id.
func describeHosts(hosts [maxClients]about) (s string) {
	for id, a := range hosts {
		if a != (about{}) {
			s += fmt.Sprintf(" %d %+v", id, a)
		}
	}
	return s
}
