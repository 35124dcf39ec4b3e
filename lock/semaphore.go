package lock

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Semaphore is the document that all hosts of a group share: who holds a slot, and how many there
// are. It is a value: methods return a changed copy and do not change the receiver.
type Semaphore struct {
	// Free is Max less the number of holders. It is negative after Max was lowered below that number.
	Free int `json:"semaphore"`
	// Max is the number of slots, 0 for none at all.
	Max int `json:"max"`
	// Holders are the ids that hold a slot, sorted; nil when there are none.
	Holders []string `json:"holders"`
}

// newSemaphore is the document that a client creates when it finds none.
func newSemaphore(max int) Semaphore {
	return Semaphore{Free: max, Max: max}
}

// ParseSemaphore reads a document. It tolerates unknown fields and holders in any
// order, and refuses a document that does not make sense, so that it is not changed either.
func ParseSemaphore(data []byte) (Semaphore, error) {
	if !utf8.Valid(data) {
		return Semaphore{}, errors.New("it is not valid UTF-8")
	}
	if !bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("{")) {
		return Semaphore{}, errors.New("it is not a JSON object")
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return Semaphore{}, fmt.Errorf("it is not JSON: %w", err)
	}
	var s Semaphore
	for _, field := range []struct {
		name string
		into *int
	}{{"semaphore", &s.Free}, {"max", &s.Max}} {
		raw, ok := fields[field.name]
		if !ok {
			return Semaphore{}, fmt.Errorf("it has no %q", field.name)
		}
		if string(raw) == "null" || json.Unmarshal(raw, field.into) != nil {
			return Semaphore{}, fmt.Errorf("%q is %.40s, not a whole number", field.name, raw)
		}
	}
	if raw, ok := fields["holders"]; ok {
		var holders []*string
		if err := json.Unmarshal(raw, &holders); err != nil {
			return Semaphore{}, errors.New(`"holders" is not a list of strings`)
		}
		for _, h := range holders {
			if h == nil || *h == "" {
				return Semaphore{}, errors.New(`"holders" has an empty entry`)
			}
			s.Holders = append(s.Holders, *h)
		}
	}
	slices.Sort(s.Holders)
	for i, h := range s.Holders {
		if i > 0 && s.Holders[i-1] == h {
			return Semaphore{}, fmt.Errorf(`"holders" lists %q twice`, h)
		}
	}
	if s.Max < 0 {
		return Semaphore{}, fmt.Errorf(`"max" is %d, below zero`, s.Max)
	}
	if s.Free != s.Max-len(s.Holders) {
		return Semaphore{}, fmt.Errorf(`it contradicts itself: "semaphore" is %d, but "max" %d less %d holders is %d`,
			s.Free, s.Max, len(s.Holders), s.Max-len(s.Holders))
	}
	return s, nil
}

// Encode writes the document the way every client writes it: fields in a fixed order, holders
// sorted, null when there are none.
func (s Semaphore) Encode() []byte {
	data, err := json.Marshal(s.with(s.Holders))
	if err != nil {
		panic(err) // numbers and strings always encode
	}
	return data
}

// Holds reports whether id has a slot.
func (s Semaphore) Holds(id string) bool {
	return slices.Contains(s.Holders, id)
}

// Acquire gives id a slot. An id that has one already changes nothing. The error is a [*FullError]
// when no slot is free, or says what is wrong with id.
func (s Semaphore) Acquire(id string) (Semaphore, error) {
	if err := ValidateID(id); err != nil {
		return Semaphore{}, err
	}
	if s.Holds(id) {
		return s, nil
	}
	if s.Free <= 0 || len(s.Holders) >= s.Max {
		return Semaphore{}, &FullError{Semaphore: s}
	}
	return s.with(append(slices.Clone(s.Holders), id)), nil
}

// Release gives the slot of id back. The error is a [*NotHeldError] when it has none.
func (s Semaphore) Release(id string) (Semaphore, error) {
	if !s.Holds(id) {
		return Semaphore{}, &NotHeldError{ID: id, Semaphore: s}
	}
	return s.with(slices.DeleteFunc(slices.Clone(s.Holders), func(h string) bool { return h == id })), nil
}

// SetMax sets the number of slots. A number below that of the holders is allowed: nobody else gets
// a slot until enough holders have released theirs, and Free is negative until then.
func (s Semaphore) SetMax(n int) (Semaphore, error) {
	if n < 0 {
		return Semaphore{}, fmt.Errorf("the number of slots is %d; it must be 0 (nobody reboots) or more", n)
	}
	s.Max = n
	return s.with(s.Holders), nil
}

// with returns s with these holders, sorted, and Free to match.
func (s Semaphore) with(holders []string) Semaphore {
	s.Holders = nil
	if len(holders) > 0 {
		s.Holders = slices.Sorted(slices.Values(holders))
	}
	s.Free = s.Max - len(s.Holders)
	return s
}

// maxID is the longest id that can take a slot, in bytes; a machine id has 32. A document has room
// for many such ids.
const maxID = 256

// ValidateID refuses ids that do not fit into the document or that cannot be printed. They are refused
// only where they would be written: any id in the document can be released.
func ValidateID(id string) error {
	if id == "" {
		return errors.New("the id of the holder is empty")
	}
	if len(id) > maxID {
		return fmt.Errorf("the id of the holder, %.20q..., is longer than %d bytes", id, maxID)
	}
	if !printable(id) {
		return fmt.Errorf("the id of the holder, %q, has characters that cannot be printed", id)
	}
	return nil
}

func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// FullError says that no slot is free, and who holds them.
type FullError struct {
	Semaphore Semaphore
}

func (e *FullError) Error() string {
	s := e.Semaphore
	if s.Max == 0 {
		return "no slot is free: max is 0, so no host may reboot"
	}
	return fmt.Sprintf("no slot is free: max is %d, held by %s", s.Max, strings.Join(s.Holders, ", "))
}

// NotHeldError says that ID holds no slot, and who holds one.
type NotHeldError struct {
	ID        string
	Semaphore Semaphore
}

func (e *NotHeldError) Error() string {
	if len(e.Semaphore.Holders) == 0 {
		return fmt.Sprintf("%s holds no slot: nobody does", e.ID)
	}
	return fmt.Sprintf("%s holds no slot: held by %s", e.ID, strings.Join(e.Semaphore.Holders, ", "))
}
