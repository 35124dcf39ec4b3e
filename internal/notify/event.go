// Package notify tells people and programs elsewhere what a host does: by HTTP, and by scripts of the host.
//
// It guarantees that whoever reports an event never waits for its delivery; that the queue, each attempt, each answer
// and each text is bounded; that what is not delivered yet survives the end of the process, as far as the disk can be
// written; that texts of others neither address people nor become links with another text; and that nothing but the
// server and the host of the URL is ever shown.
//
// It does not guarantee that an event arrives once, or at all: each arrives at least once, with the same id, unless it
// is refused, pushed out of a full queue, or a day old.
package notify

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/locksmithd/locksmith/internal/safetext"
)

// A Type says what has happened.
type Type string

// The types, as the settings name them.
const (
	RebootBegins   Type = "reboot-begins"    // logind is about to be asked for the reboot
	BackAndWell    Type = "back-and-well"    // the host has rebooted, and its checks have succeeded
	HookFailed     Type = "hook-failed"      // what runs before a reboot, or undoes that, has failed
	Unwell         Type = "unwell"           // the checks after the reboot have not succeeded in time
	RolloutStopped Type = "rollout-stopped"  // an unwell host pauses its version, or somebody has paused a group
	Resumed        Type = "resumed"          // somebody has ended such a pause
	SlotExpired    Type = "slot-expired"     // the slot of a host that did not come back was freed
	AttemptsUsedUp Type = "attempts-used-up" // the host does not reboot for a version any more

	// Test is asked for by hand, and not chosen by the settings.
	Test Type = "test"
)

// Types returns the types that the settings can choose. The caller owns the slice.
func Types() []Type {
	return []Type{RebootBegins, BackAndWell, HookFailed, Unwell, RolloutStopped, Resumed, SlotExpired, AttemptsUsedUp}
}

// ParseTypes returns the types that a text names, with commas or blanks between them; all for an empty text.
func ParseTypes(text string) ([]Type, error) {
	all := Types()
	names := strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' })
	if len(names) == 0 {
		return all, nil
	}
	var types []Type
	for _, name := range names {
		t := Type(name)
		if !slices.Contains(all, t) {
			known := make([]string, len(all))
			for i, t := range all {
				known[i] = string(t)
			}
			last := len(known) - 1
			return nil, fmt.Errorf("%.50q is not an event: write some of %s and %s, separated by commas or spaces, or leave it empty for all",
				name, strings.Join(known[:last], ", "), known[last])
		}
		if !slices.Contains(types, t) {
			types = append(types, t)
		}
	}
	return types, nil
}

// Bounds of facts, in bytes.
const (
	maxFact   = 128
	maxReason = 512
	maxText   = 1200
)

// An Event is the facts about something that has happened. Facts that do not matter, or are not known, are left out.
type Event struct {
	ID      string    `json:"id"` // the same however often the event is delivered
	Type    Type      `json:"event"`
	Time    time.Time `json:"time"`
	Host    string    `json:"host"`              // the name of the host that reports it
	Group   string    `json:"group,omitempty"`   // of hosts that share a lock; empty for the default group
	All     bool      `json:"all,omitempty"`     // it is about all groups
	Version string    `json:"version,omitempty"` // that the host reboots for, or has rebooted for
	Reason  string    `json:"reason,omitempty"`  // why, for people
	Hook    string    `json:"hook,omitempty"`    // the phase whose hooks have failed
	By      string    `json:"by,omitempty"`      // who did it by hand
	Holder  string    `json:"holder,omitempty"`  // whose slot it was: the name of a host, or else its machine id

	// Once, if set, says what the event is about: of several in succession that have the same type and are about the
	// same only the first is delivered.
	Once string `json:"-"`
}

// Complete returns the event as it is delivered: with an id, a time, and texts that are safe to show.
func (e Event) Complete(now time.Time) Event {
	if e.ID == "" {
		id := make([]byte, 16)
		_, _ = rand.Read(id) // never fails
		e.ID = hex.EncodeToString(id)
	}
	if e.Time.IsZero() {
		e.Time = now
	}
	e.Time = e.Time.UTC().Round(0).Truncate(time.Millisecond)
	for _, text := range []*string{&e.Host, &e.Group, &e.Version, &e.Hook, &e.By, &e.Holder} {
		*text = safetext.Cut(*text, maxFact)
	}
	e.Reason = safetext.Cut(e.Reason, maxReason)
	return e
}

// validID reports whether an id is one that Complete makes: it becomes part of the names of a unit and of files.
func validID(id string) bool {
	_, err := hex.DecodeString(id)
	return err == nil && len(id) == 32
}

// group names the group in a sentence.
func (e Event) group() string {
	switch {
	case e.All:
		return "all groups"
	case e.Group == "":
		return "the default group"
	}
	return "group " + e.Group
}

// Text returns the event as a sentence for people.
func (e Event) Text() string {
	version, reason, in := "", "", ""
	if e.Version != "" {
		version = " for version " + e.Version
	}
	if e.Reason != "" {
		reason = ": " + e.Reason
	}
	if e.Group != "" {
		in = " (group " + e.Group + ")"
	}
	text := e.Host + in + ": " + string(e.Type) + reason
	switch e.Type {
	case RebootBegins:
		text = e.Host + in + " reboots" + version + reason
	case BackAndWell:
		text = e.Host + in + " is back and well, after its reboot" + version
	case HookFailed:
		text = e.Host + in + ": " + e.Hook + " failed" + reason
		if e.Version != "" {
			text = e.Host + in + ": " + e.Hook + " of the reboot" + version + " failed" + reason
		}
	case Unwell:
		text = e.Host + in + " is unwell after its reboot" + version + reason
	case RolloutStopped:
		if e.By != "" {
			text = "the rollout has stopped: " + e.By + " has paused " + e.group() + reason
		} else {
			text = "the rollout of version " + e.Version + in + " has stopped, since " + e.Host + " is unwell" + reason
		}
	case Resumed:
		text = "the rollout goes on: " + e.By + " has resumed " + e.group() + reason
	case SlotExpired:
		text = e.Host + " has taken over the expired slot of " + e.Holder + in
		if e.By != "" {
			text = e.By + " has freed the expired slot of " + e.Holder + in
		}
	case AttemptsUsedUp:
		text = e.Host + in + " does not reboot any more" + version + reason
	case Test:
		text = e.Host + in + ": this is a test of notifications"
	}
	return safetext.Cut(harmless(text), maxText)
}

// harmless takes from a text what makes chats do more than show it: < and > begin and end mentions and links in Slack
// and tags in HTML, [ and ] links and pictures in Markdown, and an @ at the beginning of a word mentions people in
// Mattermost.
func harmless(text string) string {
	text = strings.NewReplacer("<", "‹", ">", "›", "[", "(", "]", ")").Replace(text)
	var b strings.Builder
	before := ' '
	for _, r := range text {
		if r == '@' && !('a' <= before && before <= 'z' || 'A' <= before && before <= 'Z' || '0' <= before && before <= '9') {
			r = '＠'
		}
		b.WriteRune(r)
		before = r
	}
	return b.String()
}

// body is what is sent by HTTP: the facts, and the text, which chats show.
type body struct {
	Text string `json:"text"`
	Event
}

// Body returns the JSON document that is sent by HTTP, which is the data of the CloudEvent.
func (e Event) Body() []byte { return encode(body{e.Text(), e}) }

// attribute is a context attribute of a CloudEvent.
type attribute struct{ name, value string }

// attributes returns the context attributes of CloudEvents 1.0, without datacontenttype.
func (e Event) attributes() []attribute {
	subject := "hosts/" + e.Host
	switch {
	case e.Type == SlotExpired:
		subject = "hosts/" + e.Holder
	case e.By != "" && e.Group != "":
		subject = "groups/" + e.Group
	case e.By != "":
		subject = "groups"
	}
	host := strings.Map(func(r rune) rune {
		if r < 0x80 && (unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("._-", r)) {
			return r
		}
		return '_' // no receiver has to decode it, neither as a URI nor as a header
	}, e.Host)
	return []attribute{
		{"specversion", "1.0"},
		{"id", e.ID},
		{"source", "/locksmith/hosts/" + host},
		{"type", "io.github.locksmithd." + string(e.Type)},
		{"time", e.Time.Format(time.RFC3339Nano)},
		{"subject", subject},
	}
}

// Document returns the event as a document in the JSON format of CloudEvents 1.0 (structured mode), which scripts get.
func (e Event) Document() []byte {
	d := struct {
		SpecVersion     string `json:"specversion"`
		ID              string `json:"id"`
		Source          string `json:"source"`
		Type            string `json:"type"`
		Time            string `json:"time"`
		Subject         string `json:"subject"`
		DataContentType string `json:"datacontenttype"`
		Data            body   `json:"data"`
	}{DataContentType: contentType, Data: body{e.Text(), e}}
	for i, to := range []*string{&d.SpecVersion, &d.ID, &d.Source, &d.Type, &d.Time, &d.Subject} {
		*to = e.attributes()[i].value
	}
	return encode(d)
}

// encode encodes what has nothing but texts, times and booleans.
func encode(v any) []byte {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false) // it would make the text six times as long, and no page shows the document
	_ = encoder.Encode(v)        // a buffer takes everything
	return b.Bytes()
}
