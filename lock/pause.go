package lock

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/locksmithd/locksmith/internal/backoff"
	"github.com/locksmithd/locksmith/internal/safetext"
)

// PauseInfo says who pauses, and why.
type PauseInfo struct {
	By, Reason string
}

// Pause is a pause that is in force: no slot can be taken.
type Pause struct {
	By     string    `json:"by"`
	Reason string    `json:"reason,omitempty"`
	Since  time.Time `json:"since"`          // by the clock of the host where it was ordered
	Until  time.Time `json:"until,omitzero"` // the same; zero for a pause that does not end by itself
	All    bool      `json:"-"`              // it pauses every group
	Broken bool      `json:"-"`              // its document in etcd cannot be understood; it is in force nevertheless

	// Host is not "" for a pause that a host has caused by being unwell: it names the host, "web-1 (ID)", the first of
	// several. Only hosts that reboot for Version are paused, and those that do not say for which version.
	Host    string `json:"-"`
	Others  int    `json:"-"` // how many more hosts cause it
	Version string `json:"-"` // "" if the host does not know its own
	Why     string `json:"-"` // what is wrong with the host
	// Left says that the host has taken another version since. Then only hosts that reboot for this very Version
	// are paused.
	Left bool `json:"-"`
}

func parsePause(data []byte, all bool) *Pause {
	p := &Pause{}
	if decode(data, p) != nil {
		return &Pause{All: all, Broken: true}
	}
	p.By, p.Reason = safetext.Clean(p.By), safetext.Clean(p.Reason)
	p.Since, p.Until, p.All = moment(p.Since), moment(p.Until), all
	return p
}

// timeLayout names the zone, since the host's may have changed by the time somebody reads it.
const timeLayout = time.DateTime + " MST"

// String says in one sentence who paused what, since when, and why.
func (p *Pause) String() string {
	if p.Host != "" {
		return p.unwell()
	}
	text := "paused"
	if p.All {
		text = "all groups are paused"
	}
	if p.Broken {
		return text + "; the record of the pause in etcd cannot be understood"
	}
	if p.By != "" {
		text += " by " + p.By
	}
	if !p.Since.IsZero() {
		text += " since " + p.Since.Local().Format(timeLayout)
	}
	if !p.Until.IsZero() {
		text += " until " + p.Until.Local().Format(timeLayout)
	}
	if p.Reason != "" {
		text += ": " + p.Reason
	}
	return text
}

// unwell says in one sentence which host causes the pause, and what is wrong with it.
func (p *Pause) unwell() string {
	text := "paused"
	if p.Version != "" {
		text += " for version " + p.Version
	}
	switch {
	case p.Broken:
		return text + "; the record of the unwell host " + p.Host + " in etcd cannot be understood"
	case p.Left:
		text += ", since host " + p.Host + " was unwell with it"
	default:
		text += ", since host " + p.Host + " is unwell"
	}
	if p.Others > 0 {
		text += fmt.Sprintf(", and %d more", p.Others)
	}
	if p.Why != "" {
		text += ": " + p.Why
	}
	return text
}

// PausedError says that no slot can be taken now.
type PausedError struct {
	Pause Pause
}

func (e *PausedError) Error() string { return e.Pause.String() }

// pauseIn returns the pause of all versions in a snapshot of the gates; nil for none.
func (l *Lock) pauseIn(snap Snapshot) *Pause {
	if v := snap.Values[pauseAllKey]; v.ModRevision != 0 {
		return parsePause(v.Data, true)
	}
	if v := snap.Values[l.pauseKey()]; v.ModRevision != 0 {
		return parsePause(v.Data, false)
	}
	return nil
}

// Pauser pauses one group, or all groups.
type Pauser struct {
	store  Store
	key    string
	unwell Read // of a group: its unwell hosts
}

// Pause stops new acquisitions until Resume, or for d if d > 0. It replaces a pause that is in
// force, and returns that; nil if there was none.
//
// After an error that matches [ErrUnknown] the pause may come into force as long as a transaction may
// be under way, even after a later Resume; so may an unanswered try of a Pause that then
// succeeded. The status shows it, and another Resume ends it.
func (p Pauser) Pause(ctx context.Context, info PauseInfo, d time.Duration) (*Pause, error) {
	if d < 0 || d > 0 && d < time.Second {
		return nil, fmt.Errorf("pause: the length is %v; it must be a second or more, or 0 for a pause that lasts until it is resumed", d)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	pause := Pause{By: info.By, Reason: info.Reason, Since: time.Now().UTC().Truncate(time.Second)}
	op := Op{Key: p.key}
	var err error
	if d > 0 {
		pause.Until = pause.Since.Add(d)
		if op.Lease, err = p.store.Grant(ctx, d); err != nil {
			return nil, fmt.Errorf("pause: %w", err)
		}
	}
	if op.Value, err = json.Marshal(pause); err != nil {
		return nil, fmt.Errorf("pause: encode: %w", err)
	}
	was, err := p.replace(ctx, op, func(v Value) bool { return bytes.Equal(v.Data, op.Value) && v.Lease == op.Lease })
	if err != nil && op.Lease != 0 && !errors.Is(err, ErrUnknown) {
		revoke(ctx, p.store, op.Lease)
	}
	if err != nil {
		return nil, fmt.Errorf("pause: %w", err)
	}
	return was, nil
}

// Resumed is what a Resume has ended.
type Resumed struct {
	Pause *Pause // nil if there was none
	// Unwell are the hosts that paused their version until then.
	Unwell []UnwellHost
}

// Resume ends the pause, and returns it. The pause of a group and that of all groups are ended separately. That of
// a group includes those that unwell hosts have caused; a host causes another one only if it is unwell after another
// boot.
func (p Pauser) Resume(ctx context.Context) (Resumed, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	was, err := p.replace(ctx, Op{Key: p.key, Delete: true}, func(v Value) bool { return v.ModRevision == 0 })
	r := Resumed{Pause: was}
	if err == nil && p.unwell.Key != "" {
		r.Unwell, err = p.resumeVersions(ctx)
	}
	if err != nil {
		return r, fmt.Errorf("resume: %w", err)
	}
	return r, nil
}

// replace applies op to the key of the pause, and returns the pause that was there before, whose lease it
// ends; nil if there was none.
func (p Pauser) replace(ctx context.Context, op Op, done func(Value) bool) (*Pause, error) {
	was, err := replaceValue(ctx, p.store, op, done)
	if err != nil || was.ModRevision == 0 {
		return nil, err
	}
	pause := parsePause(was.Data, p.key == pauseAllKey)
	if was.Lease != 0 && was.Lease != op.Lease && !pause.Broken { // a broken one may have anybody's lease
		revoke(ctx, p.store, was.Lease)
	}
	return pause, nil
}

// replaceValue applies op to a key, whatever it holds, until done holds for its value, and returns the value
// that was there before.
func replaceValue(ctx context.Context, store Store, op Op, done func(Value) bool) (was Value, err error) {
	snap, err := store.Get(ctx, Read{Key: op.Key})
	if err != nil {
		return Value{}, err
	}
	was = snap.Values[op.Key]
	var unanswered error
	for tries := 0; tries < maxConflicts; tries++ {
		now := snap.Values[op.Key]
		if done(now) {
			return was, nil
		}
		if unanswered == nil {
			was = now
		}
		// Only one of several tries that compare the same revision can happen, except at revision 0, which
		// comes back when a pause ends.
		ok, next, err := store.Commit(ctx, []Cond{{Key: op.Key, ModRevision: now.ModRevision}}, []Op{op})
		switch {
		case err == nil && ok:
			return was, nil
		case err == nil:
			snap = next
		case unanswered != nil && (errors.Is(err, ErrRefused) || errors.Is(err, ErrNoLease)):
			return was, fmt.Errorf("%w: %w; before that: %w", ErrUnknown, err, unanswered)
		case errors.Is(err, ErrRefused), errors.Is(err, ErrNoLease):
			return was, err
		default:
			unanswered = err
			backoff.Sleep(ctx, backoff.Delay(tries, 10*time.Millisecond, time.Second))
			if snap, err = store.Get(ctx, Read{Key: op.Key}); err != nil {
				return was, fmt.Errorf("%w: %w", ErrUnknown, unanswered)
			}
		}
	}
	err = fmt.Errorf("gave up on %s after %d tries", op.Key, maxConflicts)
	if unanswered != nil {
		err = fmt.Errorf("%w: %w; unanswered: %w", ErrUnknown, err, unanswered)
	}
	return was, err
}
