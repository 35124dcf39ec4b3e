package lock

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/locksmithd/locksmith/internal/safetext"
)

// Record says more about a holder, for people and for the holder itself. Only TTL has a part in who
// holds a slot.
type Record struct {
	Hostname string
	BootID   string
	// Hardware and Token tell a host that its reboot renamed from another one with its machine id. Both
	// are "" where they are not known, and mean nothing but that they are the same or not: the one is of
	// the hardware, the other one was written to the host's disk before the slot was taken.
	Hardware, Token string
	Since           time.Time
	By              string // what took the slot, such as the name of the program
	Version         string
	// Owner is a random token that tells whose a place in the queue is: who waits with the token of an
	// entry takes it over, anybody else waits beside it. Where it is empty, each wait has one of its own.
	// It is not written into the record of a slot.
	Owner string
	// TTL is how long after it was taken the slot may be taken away again, from a host that has not
	// come back; 0 is never. Hosts that wait take it away, so it comes true once one does.
	TTL time.Duration
}

// MinTTL is the least that a Record may ask for: less than a reboot takes.
const MinTTL = time.Minute

// PauseInfo says who pauses, and why.
type PauseInfo struct {
	By, Reason string
}

// Pause is a pause that is in force: nobody takes a slot.
type Pause struct {
	By, Reason string
	Since      time.Time // by the clock of the host where it was ordered
	Until      time.Time // the same; zero for a pause that does not end by itself
	// All says that it is for every group.
	All bool
	// Broken says that what etcd has about it cannot be understood. It is in force all the same.
	Broken bool
}

// What the documents look like in etcd.
type (
	recordDocument struct {
		Hostname string    `json:"hostname"`
		BootID   string    `json:"boot_id"`
		Hardware string    `json:"hardware,omitempty"`
		Token    string    `json:"token,omitempty"`
		Since    time.Time `json:"since"`
		By       string    `json:"by"`
		Version  string    `json:"version,omitempty"`
		TTL      string    `json:"ttl,omitempty"`
	}
	waiterDocument struct {
		Hostname string    `json:"hostname"`
		BootID   string    `json:"boot_id"`
		Hardware string    `json:"hardware,omitempty"`
		Token    string    `json:"token,omitempty"`
		Since    time.Time `json:"since"`
		Version  string    `json:"version,omitempty"`
		Owner    string    `json:"owner,omitempty"`
	}
	pauseDocument struct {
		By     string    `json:"by"`
		Reason string    `json:"reason,omitempty"`
		Since  time.Time `json:"since"`
		Until  time.Time `json:"until,omitzero"`
	}
)

// MarshalJSON writes the document that is in etcd. Times beyond the year 9999 are an error.
func (r Record) MarshalJSON() ([]byte, error) {
	d := recordDocument{Hostname: r.Hostname, BootID: r.BootID, Hardware: r.Hardware, Token: r.Token, Since: r.Since, By: r.By, Version: r.Version}
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
	*r = Record{Hostname: d.Hostname, BootID: d.BootID, Hardware: d.Hardware, Token: d.Token, Since: d.Since, By: d.By, Version: d.Version}
	if d.TTL == "" {
		return nil
	}
	var err error
	if r.TTL, err = time.ParseDuration(d.TTL); err != nil {
		return err
	}
	return r.checkTTL()
}

func (r Record) checkTTL() error {
	if r.TTL != 0 && r.TTL < MinTTL {
		return fmt.Errorf("the time-to-live is %v; it must be %v or more, or 0 for none", r.TTL, MinTTL)
	}
	return nil
}

// encode returns the document that a holder leaves, and the one while it waits.
func (r Record) encode() (holder, waiter []byte, err error) {
	if err := r.checkTTL(); err != nil {
		return nil, nil, err
	}
	if holder, err = json.Marshal(r); err != nil {
		return nil, nil, fmt.Errorf("encode record: %w", err)
	}
	waiter, err = json.Marshal(waiterDocument{Hostname: r.Hostname, BootID: r.BootID, Hardware: r.Hardware, Token: r.Token, Since: r.Since, Version: r.Version, Owner: r.Owner})
	return holder, waiter, err
}

// parseRecord returns the zero Record and false for what cannot be understood.
func parseRecord(data []byte) (Record, bool) {
	var r Record
	if decode(data, &r) != nil {
		return Record{}, false
	}
	for _, text := range []*string{&r.Hostname, &r.BootID, &r.Hardware, &r.Token, &r.By, &r.Version} {
		*text = safetext.Clean(*text)
	}
	r.Since = moment(r.Since)
	return r, true
}

func parseWaiter(data []byte) (Record, bool) {
	var d waiterDocument
	if decode(data, &d) != nil {
		return Record{}, false
	}
	return Record{
		Hostname: safetext.Clean(d.Hostname), BootID: safetext.Clean(d.BootID),
		Hardware: safetext.Clean(d.Hardware), Token: safetext.Clean(d.Token),
		Since: moment(d.Since), Version: safetext.Clean(d.Version), Owner: d.Owner,
	}, true
}

func parsePause(data []byte, all bool) *Pause {
	var d pauseDocument
	if decode(data, &d) != nil {
		return &Pause{All: all, Broken: true}
	}
	return &Pause{By: safetext.Clean(d.By), Reason: safetext.Clean(d.Reason), Since: moment(d.Since), Until: moment(d.Until), All: all}
}

// moment returns t, or the zero Time where it cannot be written in every zone.
func moment(t time.Time) time.Time {
	if year := t.Year(); year < 1 || year >= 9999 {
		return time.Time{}
	}
	return t
}

// maxDocument is the longest document, in bytes, that is looked at: many times what anybody writes.
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
