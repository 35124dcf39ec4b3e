package journal

import (
	"log/slog"

	"github.com/locksmithd/locksmith/internal/safetext"
)

// Facts are what a line is about, for programs: fields of its entry in the journal, see systemd.journal-fields(7), or
// of its JSON. Text does not have them. The zero Facts have none.
type Facts struct {
	ID MessageID // MESSAGE_ID=

	// The following are fields named LOCKSMITH_STATE= and so on. Where State is set, Group, Version and Reason are fields
	// even if they are empty.
	State   string // in which the daemon is
	From    string // in which it was before
	Group   string // whose slots it takes; "" for the default group, and where it takes none
	Version string // that a reboot is needed for; "" if there is none, or it is not known
	Reason  string // why
}

// factsKey is the key of an attribute with Facts. It is not written.
const factsKey = "facts"

// Attr returns the facts as an attribute of a line.
func (f Facts) Attr() slog.Attr { return slog.Any(factsKey, f) }

// field is a field of an entry.
type field struct{ name, value string }

// maxField is the longest value, in bytes, give or take an escaped character. Others choose versions and reasons.
const maxField = 2 << 10

// fields returns the facts as fields, each value on one line and without characters that a terminal may act upon.
func (f Facts) fields() (all []field) {
	add := func(name, value string, empty bool) {
		if value != "" || empty {
			all = append(all, field{name, safetext.Cut(value, maxField)})
		}
	}
	stated := f.State != ""
	add("MESSAGE_ID", string(f.ID), false)
	add("LOCKSMITH_STATE", f.State, false)
	add("LOCKSMITH_FROM", f.From, false)
	add("LOCKSMITH_GROUP", f.Group, stated)
	add("LOCKSMITH_VERSION", f.Version, stated)
	add("LOCKSMITH_REASON", f.Reason, stated)
	return all
}

// takeFacts returns a record without its facts, and these.
func takeFacts(r slog.Record) (rest slog.Record, facts Facts) {
	rest = slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
	r.Attrs(func(a slog.Attr) bool {
		if f, ok := a.Value.Any().(Facts); ok && a.Key == factsKey {
			facts = f
		} else {
			rest.AddAttrs(a)
		}
		return true
	})
	return rest, facts
}
