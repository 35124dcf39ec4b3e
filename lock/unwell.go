package lock

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/locksmithd/locksmith/internal/backoff"
	"github.com/locksmithd/locksmith/internal/safetext"
)

// UnwellHost is a host that was found unwell after a reboot, which pauses its group for the version of that reboot:
// hosts that wait for this version wait, others go on. It may hold a slot, or not any more.
type UnwellHost struct {
	ID       string    `json:"-"`
	Hostname string    `json:"hostname"`
	BootID   string    `json:"boot_id"`
	Version  string    `json:"version,omitempty"`
	Why      string    `json:"why"`
	Since    time.Time `json:"since"`
	// Resumed says that the pause was ended.
	Resumed bool `json:"resumed,omitempty"`
	// Left says that the host reboots, or has rebooted, for another version since. Then hosts without a version go on.
	Left bool `json:"left,omitempty"`
	// Broken says that its document in etcd cannot be understood. It pauses every version nevertheless.
	Broken bool `json:"-"`
}

// parseUnwell returns the host that an entry is about.
func parseUnwell(id string, data []byte) UnwellHost {
	var u UnwellHost
	if decode(data, &u) != nil {
		return UnwellHost{ID: id, Broken: true}
	}
	u.ID = id
	for _, text := range []*string{&u.Hostname, &u.BootID, &u.Version, &u.Why} {
		*text = safetext.Clean(*text)
	}
	u.Since = moment(u.Since)
	return u
}

// Pauses reports whether this host makes hosts wait that wait for a version. A version that is not known may be any.
func (u UnwellHost) Pauses(version string) bool {
	switch {
	case u.Broken:
		return true
	case u.Resumed:
		return false
	}
	same := u.Version == safetext.Clean(version)
	return same || !u.Left && (u.Version == "" || version == "")
}

// Pause returns the pause that this host causes.
func (u UnwellHost) Pause() *Pause {
	host := safetext.Clean(u.ID)
	if u.Hostname != "" {
		host = fmt.Sprintf("%s (%s)", u.Hostname, host)
	}
	return &Pause{Host: host, Since: u.Since, Version: u.Version, Why: u.Why, Left: u.Left, Broken: u.Broken}
}

// put writes the entry of the host.
func (u UnwellHost) put(key string) Op {
	data, err := json.Marshal(u)
	if err != nil {
		panic(err) // moment has checked the time, and texts always encode
	}
	return Op{Key: key, Value: data}
}

// unwellIn returns the unwell hosts in a snapshot, in the order of their reports.
func unwellIn(snap Snapshot, r Read) (hosts []UnwellHost) {
	for _, key := range byCreation(snap, r) {
		hosts = append(hosts, parseUnwell(idOf(key), snap.Values[key].Data))
	}
	return hosts
}

// versionPause returns the pause of a version in a snapshot of the gates; nil for none.
func (l *Lock) versionPause(version string, snap Snapshot) (p *Pause) {
	for _, u := range unwellIn(snap, l.unwellRange()) {
		switch {
		case !u.Pauses(version):
		case p == nil:
			p = u.Pause()
		default:
			p.Others++
		}
	}
	return p
}

// pauseOf returns the pause that stops a host which reboots for a version, in a snapshot of the gates; nil for none.
func (l *Lock) pauseOf(version string, snap Snapshot) *Pause {
	if p := l.pauseIn(snap); p != nil {
		return p
	}
	return l.versionPause(version, snap)
}

// well ends the entry of a host that is well, and has a slot with this record. An entry for another version stays: the
// host has left that, and nobody knows more about it than before.
func (l *Lock) well(id string, record Record, entry Value) []Op {
	u := parseUnwell(id, entry.Data)
	same := u.BootID == l.self.BootID || u.Version == safetext.Clean(record.Version)
	switch {
	case entry.ModRevision == 0:
		return nil
	case u.Broken, u.Resumed, same:
		return []Op{{Key: l.unwellKey(id), Delete: true}}
	case u.Left:
		return nil
	}
	u.Left = true
	return []Op{u.put(l.unwellKey(id))}
}

// resumeVersions ends the pauses of all unwell hosts, and returns these. Their entries stay, so that a host does not
// cause its pause again in the same boot, except of hosts that have left the version.
func (p Pauser) resumeVersions(ctx context.Context) (ended []UnwellHost, err error) {
	var unanswered error
	for tries := 0; tries < maxConflicts; tries++ {
		snap, err := p.store.Get(ctx, p.unwell)
		if err != nil && unanswered != nil {
			return ended, fmt.Errorf("%w: %w", ErrUnknown, unanswered)
		}
		if err != nil {
			return ended, err
		}
		conds, ops, hosts := p.resuming(snap)
		if len(ops) == 0 {
			return ended, nil
		}
		ok, _, err := p.store.Commit(ctx, conds, ops)
		switch {
		case err == nil && !ok:
			continue
		case errors.Is(err, ErrRefused):
			return ended, err
		case err != nil: // the next read shows whether it has happened
			unanswered = err
			backoff.Sleep(ctx, backoff.Delay(tries, 10*time.Millisecond, time.Second))
		}
		for _, u := range hosts {
			if !slices.ContainsFunc(ended, func(e UnwellHost) bool { return e.ID == u.ID }) {
				ended = append(ended, u)
			}
		}
	}
	return ended, fmt.Errorf("gave up on %s after %d tries", p.unwell.Key, maxConflicts)
}

// resuming returns a transaction that ends the pauses of unwell hosts in a snapshot, the first if there are many.
func (p Pauser) resuming(snap Snapshot) (conds []Cond, ops []Op, hosts []UnwellHost) {
	for _, key := range byCreation(snap, p.unwell) {
		u := parseUnwell(idOf(key), snap.Values[key].Data)
		if u.Resumed || len(ops) == maxReads {
			continue
		}
		hosts = append(hosts, u)
		conds = append(conds, Cond{Key: key, ModRevision: snap.Values[key].ModRevision})
		if u.Left || u.Broken {
			ops = append(ops, Op{Key: key, Delete: true})
			continue
		}
		u.Resumed = true
		ops = append(ops, u.put(key))
	}
	return conds, ops, hosts
}
