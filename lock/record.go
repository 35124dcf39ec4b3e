package lock

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/locksmithd/locksmith/internal/safetext"
)

// Record says more about a holder, for people and for the holder itself. Only TTL affects who holds a slot.
type Record struct {
	Hostname string `json:"hostname"`
	BootID   string `json:"boot_id"`
	// Hardware and Token tell a host that was renamed from another host with its machine id. Both
	// are "" where they are not known, and can only be compared: Hardware identifies the
	// hardware, Token was written to the host's disk before the slot was taken.
	Hardware string `json:"hardware,omitempty"`
	Token    string `json:"token,omitempty"`
	// Since is when the caller of Acquire or TryAcquire begins: since then it waits. The record of a slot that was waited
	// for says when it was taken.
	Since   time.Time `json:"since"`
	By      string    `json:"by"` // what took the slot, such as the name of the program
	Version string    `json:"version,omitempty"`
	Reason  string    `json:"reason,omitempty"` // why the host reboots, where its version does not say so
	// Owner is a random token that identifies the owner of a place in the queue: a wait with the same
	// Owner takes the place over, any other waits beside it. Where it is empty, each wait has its own.
	// It is not written into the record of a slot.
	Owner string `json:"-"`
	// Stay is how long the place in the queue outlives a wait without a slot, from MinStay to MaxStay, for a client that
	// comes back to ask again. 0 is for a process that waits for as long as it wants a slot. It is not written into the
	// record of a slot.
	Stay time.Duration `json:"-"`
	// Remote says that a server took the slot for a client that told it no more than its id, with BootID "" and the
	// client's address as Hostname.
	Remote bool `json:"remote,omitempty"`
	// TTL is how long after it was taken the slot may be taken away from a host that has not
	// come back; 0 is never. Hosts that wait take it away, so it stays as long as nobody waits.
	TTL time.Duration `json:"-"`
	// OSVersion is the version of the operating system that ran when the slot was taken; "" where it is unknown.
	OSVersion string `json:"os_version,omitempty"`
	// Phase is what the holder does with its slot, as it has reported, since when, and why; "" where it has not.
	Phase      Phase     `json:"phase,omitempty"`
	PhaseSince time.Time `json:"phase_since,omitzero"`
	PhaseWhy   string    `json:"phase_why,omitempty"`
}

const (
	// MinTTL is the least that a Record may ask for: less than a reboot takes.
	MinTTL = time.Minute

	// MinStay and MaxStay are the bounds of a Stay. A client that does not come back holds up those behind it for so
	// long, if a slot is free.
	MinStay = queueLease
	MaxStay = time.Hour
)

// The documents in etcd.
type (
	plainRecord    Record // without the methods
	recordDocument struct {
		plainRecord
		TTL string `json:"ttl,omitempty"`
	}
	entryDocument struct {
		plainRecord
		By    any    `json:"by,omitempty"` // instead of the By of a record: an entry has none
		Owner string `json:"owner,omitempty"`
		Stay  string `json:"stay,omitempty"`
	}
)

// MarshalJSON writes the document of a holder. Times beyond the year 9999 are an error.
func (r Record) MarshalJSON() ([]byte, error) {
	d := recordDocument{plainRecord: plainRecord(r)}
	if r.TTL != 0 {
		d.TTL = r.TTL.String()
	}
	return json.Marshal(d)
}

// UnmarshalJSON reads what MarshalJSON writes. A time-to-live below MinTTL is an error.
func (r *Record) UnmarshalJSON(data []byte) error {
	var d recordDocument
	if err := json.Unmarshal(data, &d); err != nil {
		return err
	}
	*r = Record(d.plainRecord)
	if d.TTL == "" {
		return nil
	}
	var err error
	if r.TTL, err = time.ParseDuration(d.TTL); err != nil {
		return err
	}
	return r.checkTTL()
}

func (r Record) checkStay() error {
	if r.Stay != 0 && (r.Stay < MinStay || r.Stay > MaxStay) {
		return fmt.Errorf("the place in the queue is to stay for %v; it must be from %v to %v, or 0", r.Stay, MinStay, MaxStay)
	}
	return nil
}

func (r Record) checkTTL() error {
	if r.TTL != 0 && r.TTL < MinTTL {
		return fmt.Errorf("the time-to-live is %v; it must be %v or more, or 0 for none", r.TTL, MinTTL)
	}
	return nil
}

// encode returns the documents of a holder and of an entry in the queue.
func (r Record) encode() (holder, entry []byte, err error) {
	if err := cmp.Or(r.checkTTL(), r.checkStay()); err != nil {
		return nil, nil, err
	}
	if holder, err = json.Marshal(r); err != nil {
		return nil, nil, fmt.Errorf("encode record: %w", err)
	}
	d := entryDocument{plainRecord: plainRecord(r), Owner: r.Owner}
	if r.Stay != 0 {
		d.Stay = r.Stay.String()
	}
	entry, err = json.Marshal(d)
	return holder, entry, err
}

// parseRecord returns the zero Record and false for a document that cannot be understood.
func parseRecord(data []byte) (Record, bool) {
	var r Record
	if decode(data, &r) != nil {
		return Record{}, false
	}
	return r.cleaned(), true
}

// parseEntry is parseRecord for an entry in the queue.
func parseEntry(data []byte) (Record, bool) {
	var d entryDocument
	if decode(data, &d) != nil {
		return Record{}, false
	}
	d.plainRecord.Owner = d.Owner
	if stay, err := time.ParseDuration(d.Stay); err == nil && stay > 0 {
		d.plainRecord.Stay = min(stay, MaxStay)
	}
	return Record(d.plainRecord).cleaned(), true
}

// cleaned returns the record that another client has written as it may be shown.
func (r Record) cleaned() Record {
	for _, text := range []*string{&r.Hostname, &r.BootID, &r.Hardware, &r.Token, &r.By, &r.Version, &r.Reason, &r.OSVersion, (*string)(&r.Phase), &r.PhaseWhy} {
		*text = safetext.Clean(*text)
	}
	r.Since, r.PhaseSince = moment(r.Since), moment(r.PhaseSince)
	return r
}

// moment returns t, or the zero Time where t cannot be written in every zone.
func moment(t time.Time) time.Time {
	if year := t.Year(); year < 1 || year >= 9999 {
		return time.Time{}
	}
	return t
}

// maxDocument is the longest document, in bytes, that is parsed: many times what any client writes.
const maxDocument = 64 << 10

// decode reads a JSON object that any client of etcd may have written.
func decode(data []byte, into any) error {
	if len(data) > maxDocument {
		return errors.New("it is too long")
	}
	if !utf8.Valid(data) || !bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("{")) {
		return errors.New("it is not a JSON object")
	}
	return json.Unmarshal(data, into)
}
