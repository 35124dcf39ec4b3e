package lock

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// Import are the slots of another program that shares slots among hosts.
type Import struct {
	From    string   // the program
	Max     int      // the number of its slots
	Holders []string // the ids of the hosts that hold one; they may be more than Max
	Again   bool     // also if they were taken over before
}

// Imported is what an import changes.
type Imported struct {
	Exists        bool      // the document existed before
	Before, After Semaphore // Before is what a client would create if Exists is false
}

// ImportedError says that the slots of another program were taken over before. Hosts may have given slots back since,
// and the other program does not know that.
type ImportedError struct {
	From  string
	Since time.Time // when; zero if it is not known
}

func (e *ImportedError) Error() string {
	text := fmt.Sprintf("the slots of %s were taken over before", e.From)
	if !e.Since.IsZero() {
		text += ", at " + e.Since.Local().Format(timeLayout)
	}
	return text
}

// importDocument is the mark that an import leaves.
type importDocument struct {
	From  string    `json:"from"`
	Since time.Time `json:"since"`
	Token string    `json:"token"` // of the call that did it
}

// PlanImport returns what Import would change, or the error that it would end with. It only reads.
func (l *Lock) PlanImport(ctx context.Context, i Import) (Imported, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	snap, err := l.store.Get(ctx, keys(l.semaphoreKey(), l.importedKey())...)
	if err != nil {
		return Imported{}, fmt.Errorf("read the lock: %w", err)
	}
	s, _, err := l.parse(snap)
	if err != nil {
		return Imported{}, err
	}
	return l.imported(i, view{Snapshot: snap, semaphore: s})
}

// Import takes over the slots of another program in one transaction: the number of slots, a slot for each host that
// holds one there, and a mark that this was done. A pause does not stop it, because it lets no host reboot that could
// not before. No host can take a slot in between, even if both programs together have more holders than Max. The error
// is an [*ImportedError] if there is a mark already, unless Again is set; then nothing has changed. After ErrUnknown
// the call may be made again: it does what is left.
func (l *Lock) Import(ctx context.Context, i Import) (result Imported, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	now := time.Now().UTC().Truncate(time.Second)
	record, _, err := Record{Since: now, By: i.From, Remote: true}.encode()
	if err != nil {
		return Imported{}, err
	}
	mark, err := json.Marshal(importDocument{From: i.From, Since: now, Token: rand.Text()})
	if err != nil {
		return Imported{}, fmt.Errorf("encode the mark of the import: %w", err)
	}
	err = l.readAndChange(ctx, keys(l.semaphoreKey(), l.importedKey()), func(v view) (*change, error) {
		found := v.Values[l.importedKey()]
		if v.undecided && bytes.Equal(found.Data, mark) {
			return nil, nil // it has happened
		}
		now, err := l.imported(i, v)
		if err != nil {
			return nil, err
		}
		result = now
		c := &change{
			next:  now.After,
			conds: []Cond{{Key: l.importedKey(), ModRevision: found.ModRevision}},
			ops:   []Op{{Key: l.importedKey(), Value: mark}},
		}
		// More records than a transaction has room for are left out: a slot does not depend on its record.
		taken := now.Taken()
		for _, id := range taken[:min(maxReads, len(taken))] {
			c.ops = append(c.ops, Op{Key: l.recordKey(id), Value: record})
		}
		return c, nil
	})
	if err != nil {
		return Imported{}, l.outcome("take over the slots of "+i.From, err)
	}
	return result, nil
}

// imported returns what an import changes, given a snapshot of the document and the mark.
func (l *Lock) imported(i Import, v view) (Imported, error) {
	result := Imported{Exists: v.Values[l.semaphoreKey()].ModRevision != 0, Before: v.semaphore}
	if mark := v.Values[l.importedKey()]; mark.ModRevision != 0 && !i.Again {
		var d importDocument
		_ = decode(mark.Data, &d) // one that cannot be understood is a mark as well
		return result, &ImportedError{From: i.From, Since: moment(d.Since)}
	}
	after, err := v.semaphore.SetMax(i.Max)
	if err != nil {
		return result, err
	}
	holders := slices.Clone(after.Holders)
	for _, id := range i.Holders {
		if err := ValidateID(id); err != nil {
			return result, err
		}
		if !slices.Contains(holders, id) {
			holders = append(holders, id)
		}
	}
	result.After = after.with(holders)
	return result, nil
}

// Taken returns the ids for which the import takes a slot.
func (i Imported) Taken() []string {
	return slices.DeleteFunc(slices.Clone(i.After.Holders), i.Before.Holds)
}
