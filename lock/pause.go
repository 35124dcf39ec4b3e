package lock

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/locksmithd/locksmith/internal/backoff"
)

// Pause has nobody newly take a slot of this group until Resume, or for so long if that is not 0. It
// replaces a pause that is in force, and returns that; nil if there was none.
//
// After an error that matches [ErrUnknown] the pause may come into force as long as a transaction may
// be under way, even after a later Resume; and so may a try that was not answered, of a Pause that then
// succeeded. It is seen in the status, and another Resume ends it.
func (l *Lock) Pause(ctx context.Context, info PauseInfo, d time.Duration) (*Pause, error) {
	return pauseAt(ctx, l.store, l.pauseKey(), info, d)
}

// Resume ends the pause of this group, and returns it; nil if there was none. One for all groups stays.
func (l *Lock) Resume(ctx context.Context) (*Pause, error) {
	return resumeAt(ctx, l.store, l.pauseKey())
}

// PauseAll is like [Lock.Pause] for every group, also those that do not exist yet.
func PauseAll(ctx context.Context, store Store, info PauseInfo, d time.Duration) (*Pause, error) {
	return pauseAt(ctx, store, pauseAllKey, info, d)
}

// ResumeAll ends what PauseAll began, and returns it; nil if that was nothing. Pauses of single groups
// stay.
func ResumeAll(ctx context.Context, store Store) (*Pause, error) {
	return resumeAt(ctx, store, pauseAllKey)
}

func pauseAt(ctx context.Context, store Store, key string, info PauseInfo, d time.Duration) (*Pause, error) {
	if d < 0 || d > 0 && d < time.Second {
		return nil, fmt.Errorf("pause: it is to last %v; it must be a second or more, or 0 for until it is resumed", d)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	document := pauseDocument{By: info.By, Reason: info.Reason, Since: time.Now().UTC().Truncate(time.Second)}
	op := Op{Key: key}
	if d > 0 {
		document.Until = document.Since.Add(d)
		var err error
		if op.Lease, err = store.Grant(ctx, d); err != nil {
			return nil, fmt.Errorf("pause: %w", err)
		}
	}
	var err error
	if op.Value, err = json.Marshal(document); err != nil {
		return nil, fmt.Errorf("pause: encode: %w", err)
	}
	was, err := replace(ctx, store, op, func(v Value) bool { return bytes.Equal(v.Data, op.Value) && v.Lease == op.Lease })
	if err != nil && op.Lease != 0 && !errors.Is(err, ErrUnknown) {
		revoke(ctx, store, op.Lease)
	}
	if err != nil {
		return nil, fmt.Errorf("pause: %w", err)
	}
	return was, nil
}

func resumeAt(ctx context.Context, store Store, key string) (*Pause, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	was, err := replace(ctx, store, Op{Key: key, Delete: true}, func(v Value) bool { return v.ModRevision == 0 })
	if err != nil {
		return nil, fmt.Errorf("resume: %w", err)
	}
	return was, nil
}

// replace does op to the key of a pause, and returns the one that was there before, whose lease it
// ends; nil if there was none.
func replace(ctx context.Context, store Store, op Op, done func(Value) bool) (*Pause, error) {
	was, err := replaceValue(ctx, store, op, done)
	if err != nil || was.ModRevision == 0 {
		return nil, err
	}
	p := parsePause(was.Data, op.Key == pauseAllKey)
	if was.Lease != 0 && was.Lease != op.Lease && !p.Broken { // else the lease may be somebody's
		revoke(ctx, store, was.Lease)
	}
	return p, nil
}

// replaceValue does op to a key that holds anything, unless that is done, and returns what was there
// before.
func replaceValue(ctx context.Context, store Store, op Op, done func(Value) bool) (was Value, err error) {
	snap, err := store.Get(ctx, Read{Key: op.Key})
	if err != nil {
		return Value{}, err
	}
	was = snap.Values[op.Key]
	unanswered := error(nil)
	for tries := 0; tries < maxConflicts; tries++ {
		now := snap.Values[op.Key]
		if done(now) {
			return was, nil
		}
		if unanswered == nil {
			was = now
		}
		// Of several tries that compare the same revision one can happen, unless that is 0, which comes
		// back when a pause ends.
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
			sleep(ctx, backoff.Delay(tries, 10*time.Millisecond, time.Second))
			if snap, err = store.Get(ctx, Read{Key: op.Key}); err != nil {
				return was, fmt.Errorf("%w: %w", ErrUnknown, unanswered)
			}
		}
	}
	err = fmt.Errorf("gave up on %s after %d tries", op.Key, maxConflicts)
	if unanswered != nil {
		err = fmt.Errorf("%w: %w; of these: %w", ErrUnknown, err, unanswered)
	}
	return was, err
}

// Groups returns the groups that have keys in the store, in order; "" is the default group, if it has.
func Groups(ctx context.Context, store Store) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var groups []string
	const all = Root + "/groups/"
	snap, err := store.Get(ctx, Read{Key: Root + "/semaphore"}, Read{Key: Root + "/pause"}, first(below(Root+"/queue/")))
	if err != nil {
		return nil, fmt.Errorf("list groups: %w", err)
	}
	if len(snap.Values) > 0 {
		groups = append(groups, "")
	}
	// One key of each group is read, and then the first one after all of that group.
	for next := first(below(all)); ; {
		snap, err := store.Get(ctx, next)
		if err != nil {
			return nil, fmt.Errorf("list groups: %w", err)
		}
		found := within(snap, next)
		if len(found) == 0 {
			return groups, nil
		}
		escaped, _, deeper := strings.Cut(found[0][len(all):], "/")
		group, err := url.QueryUnescape(escaped)
		if deeper && err == nil && group != "" && prefix(group) == all+escaped && ValidateGroup(group) == nil {
			groups = append(groups, group)
		}
		next.Key = all + escaped + "0"
		if !deeper {
			next.Key = found[0] + "\x00"
		}
	}
}
