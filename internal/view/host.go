package view

import (
	"fmt"
	"strings"
	"time"

	"github.com/locksmithd/locksmith/internal/hostfacts"
	"github.com/locksmithd/locksmith/internal/safetext"
)

// maxLine bounds a text of a host in bytes.
const maxLine = 2 << 10

// Host shows the state of a host: its daemon's status, what comes next, and every gate. As a document in a row of
// others, it is one of several.
func (f Format) Host(h hostfacts.Host, now time.Time, inRow bool) (string, error) {
	switch {
	case f == Text:
		return hostText(h, now), nil
	case f == Wide:
		return hostText(h, now) + "\n" + hostDetails(h, now), nil
	case inRow:
		return f.marshalOne(newHostDocument(h))
	}
	return f.marshal(newHostDocument(h))
}

// HostLine describes a host in a line.
func HostLine(h hostfacts.Host, now time.Time) string {
	return dateTime(now) + "  " + safetext.Cut(h.Status, maxLine) + "\n"
}

// HostScreen draws a host for a terminal of that size, in lines. failure is why it may be out of date; nil if it is not.
func HostScreen(h *hostfacts.Host, failure error, now time.Time, width, height int) []string {
	lines := []string{"locksmith, this host   " + dateTime(now)}
	switch {
	case failure != nil:
		lines = append(lines, "OUT OF DATE: "+safetext.Cut(failure.Error(), maxFailure))
	case h == nil:
		lines = append(lines, "", "asking locksmithd ...")
	}
	if h != nil {
		lines = append(lines, "")
		lines = append(lines, strings.Split(strings.TrimSuffix(hostText(*h, now), "\n"), "\n")...)
	}
	return Fit(lines, width, height)
}

// moment formats a time, with how long ago or ahead it is; "" for one that is not known.
func moment(micros uint64, now time.Time) string {
	t := hostfacts.Time(micros)
	switch {
	case t.IsZero():
		return ""
	case t.After(now):
		return fmt.Sprintf("%s (in %s)", timestamp(t, now), elapsed(now, t))
	}
	return fmt.Sprintf("%s (%s ago)", timestamp(t, now), elapsed(t, now))
}

func hostText(h hostfacts.Host, now time.Time) string {
	var b strings.Builder
	b.WriteString(hostSentence(h))
	b.WriteString("\n\n")
	line := func(label, text string) {
		if text != "" {
			fmt.Fprintf(&b, "%-8s %s\n", label+":", safetext.Cut(text, maxLine))
		}
	}
	line("Since", moment(h.StateSince, now))
	needed := "no"
	if h.RebootNeeded {
		needed = "yes"
		if at := moment(h.NeededSince, now); at != "" {
			needed += ", since " + at
		}
		if h.NeededVersion != "" {
			needed += ", for version " + h.NeededVersion
		}
		if len(h.NeededReasons) > 0 {
			needed += ": " + safetext.List(h.NeededReasons)
		}
	}
	line("Reboot", needed)
	next := h.Next
	if at := moment(h.NextAt, now); at != "" {
		next += ", " + at
	}
	line("Next", next)
	for _, trouble := range h.Troubles {
		line("Trouble", trouble)
	}
	line("Error", h.LastError)
	line("Failed", h.LastRebootFailed)
	line("Config", refusedConfig(h.ConfigRefused))
	line("Daemon", h.Status)
	b.WriteString("\n")
	table := NewTable("GATE", "SAYS", "WHY")
	for _, g := range h.Gates {
		table.Row(safetext.Cut(g.Name, maxName), safetext.Cut(g.Answer, maxName), safetext.Cut(g.Why, maxLine))
	}
	b.WriteString(table.String())
	return b.String()
}

func refusedConfig(why string) string {
	if why == "" {
		return ""
	}
	return "the new configuration is refused, the old one stays in force: " + why
}

// hostSentence says in one sentence whether this host reboots, and what keeps it from doing so.
func hostSentence(h hostfacts.Host) string {
	var shut []string
	for _, g := range h.Gates {
		if g.Answer == "no" || g.Answer == "unknown" {
			shut = append(shut, safetext.Cut(g.Name, maxName))
		}
	}
	switch {
	case h.State == "left":
		return "locksmithd ends on this host."
	case h.State == "rebooting":
		return "This host reboots now."
	case h.State == "settling":
		return "This host settles after its start; it may still hold a slot from before."
	case !h.RebootNeeded:
		return "No reboot of this host is needed."
	case h.State == "preparing" && h.RebootAt != 0:
		return "This host is about to reboot; users are told."
	case h.State == "preparing":
		return "This host is about to reboot."
	case len(shut) == 0:
		return "This host needs a reboot, and asks its gates."
	case len(shut) == 1:
		return "This host needs a reboot, which 1 gate holds back: " + shut[0] + "."
	}
	return fmt.Sprintf("This host needs a reboot, which %d gates hold back: %s.", len(shut), safetext.List(shut))
}

// hostDetails shows the other facts that there are, a line each.
func hostDetails(h hostfacts.Host, now time.Time) string {
	var b strings.Builder
	line := func(label, text string) {
		if text != "" {
			fmt.Fprintf(&b, "%-21s %s\n", label+":", safetext.Cut(text, maxLine))
		}
	}
	at := func(label string, micros uint64) { line(label, moment(micros, now)) }
	yes := func(label string, is bool) {
		if is {
			line(label, "yes")
		}
	}
	line("State", h.State)
	line("Reason", h.Why)
	line("Strategy", h.Strategy)
	if h.SlotNeeded {
		line("Group", GroupName(h.Group))
	}
	line("Sources", safetext.List(h.NeededBy))
	at("Window opens", h.WindowOpens)
	line("Shut by", h.WindowShutBy)
	at("Window shuts", h.WindowShuts)
	at("Begins", h.Begins)
	line("Held back by", h.HeldBackBy)
	at("Postponable until", h.PostponableUntil)
	yes("Slot held", h.SlotHeld)
	line("Slot blocked by", h.SlotBlockedBy)
	line("Users", safetext.List(h.Users))
	at("Users told", h.UsersWarned)
	at("Reboot at", h.RebootAt)
	yes("Cannot be cancelled", h.RebootFinal)
	line("Kind of reboot", h.RebootMode)
	at("Tried again", h.GiveUpAt)
	at("Drain until", h.DrainUntil)
	line("Health", h.Health)
	line("Health for version", h.HealthVersion)
	at("Checked since", h.HealthSince)
	at("Health until", h.HealthUntil)
	line("Health error", h.HealthError)
	for _, r := range h.Retries {
		line("Failed", r.Error)
		at("Tried again", r.At)
	}
	for _, u := range h.Undo {
		line("Undo", u.Doing)
		at("May come until", u.Settles)
		line("Undo failed", u.Error)
		at("Tried again", u.RetryAt)
		line("Advice", u.Advice)
	}
	return b.String()
}

// HostDocument is what scripts read about a host, in JSON and YAML. Fields may be added; existing ones stay; the help of
// "locksmithctl status" describes them.
type HostDocument struct {
	State     string       `json:"state" yaml:"state"`
	Since     *time.Time   `json:"since" yaml:"since"`
	Why       string       `json:"why" yaml:"why"`
	Status    string       `json:"status" yaml:"status"`
	Strategy  string       `json:"strategy" yaml:"strategy"`
	Group     string       `json:"group" yaml:"group"`
	Need      *hostNeed    `json:"need" yaml:"need"`
	Gates     []hostGate   `json:"gates" yaml:"gates"`
	Next      hostNext     `json:"next" yaml:"next"`
	Slot      hostSlot     `json:"slot" yaml:"slot"`
	Window    hostWindow   `json:"window" yaml:"window"`
	HeldBack  *hostHeld    `json:"held_back" yaml:"held_back"`
	Reboot    hostReboot   `json:"reboot" yaml:"reboot"`
	Health    *hostHealth  `json:"health" yaml:"health"`
	Troubles  []string     `json:"troubles" yaml:"troubles"`
	LastError string       `json:"last_error" yaml:"last_error"`
	Failed    string       `json:"last_reboot_failed" yaml:"last_reboot_failed"`
	Retries   []hostRetry  `json:"retries" yaml:"retries"`
	Undo      []hostToUndo `json:"undo" yaml:"undo"`
	Refused   string       `json:"config_refused" yaml:"config_refused"`
}

type hostNeed struct {
	Since   *time.Time `json:"since" yaml:"since"`
	Version string     `json:"version" yaml:"version"`
	Sources []string   `json:"sources" yaml:"sources"`
	Reasons []string   `json:"reasons" yaml:"reasons"`
}

type hostGate struct {
	Name   string `json:"name" yaml:"name"`
	Answer string `json:"answer" yaml:"answer"`
	Why    string `json:"why" yaml:"why"`
}

type hostNext struct {
	What string     `json:"what" yaml:"what"`
	At   *time.Time `json:"at" yaml:"at"`
}

type hostSlot struct {
	Needed    bool   `json:"needed" yaml:"needed"`
	Held      bool   `json:"held" yaml:"held"`
	BlockedBy string `json:"blocked_by" yaml:"blocked_by"`
}

type hostWindow struct {
	Opens  *time.Time `json:"opens" yaml:"opens"`
	ShutBy string     `json:"shut_by" yaml:"shut_by"`
	Shuts  *time.Time `json:"shuts" yaml:"shuts"`
	Begins *time.Time `json:"begins" yaml:"begins"`
}

type hostHeld struct {
	Gate  string     `json:"gate" yaml:"gate"`
	By    string     `json:"by" yaml:"by"`
	Until *time.Time `json:"until" yaml:"until"`
}

type hostReboot struct {
	Users      []string   `json:"users" yaml:"users"`
	WarnedAt   *time.Time `json:"warned_at" yaml:"warned_at"`
	At         *time.Time `json:"at" yaml:"at"`
	Final      bool       `json:"final" yaml:"final"`
	Mode       string     `json:"mode" yaml:"mode"`
	GiveUpAt   *time.Time `json:"give_up_at" yaml:"give_up_at"`
	DrainUntil *time.Time `json:"drain_until" yaml:"drain_until"`
}

type hostHealth struct {
	State   string     `json:"state" yaml:"state"`
	Version string     `json:"version" yaml:"version"`
	Since   *time.Time `json:"since" yaml:"since"`
	Until   *time.Time `json:"until" yaml:"until"`
	Error   string     `json:"error" yaml:"error"`
}

type hostRetry struct {
	At    *time.Time `json:"at" yaml:"at"`
	Error string     `json:"error" yaml:"error"`
}

type hostToUndo struct {
	Name    string     `json:"name" yaml:"name"`
	Doing   string     `json:"doing" yaml:"doing"`
	Settles *time.Time `json:"settles" yaml:"settles"`
	RetryAt *time.Time `json:"retry_at" yaml:"retry_at"`
	Error   string     `json:"error" yaml:"error"`
	Advice  string     `json:"advice" yaml:"advice"`
}

func newHostDocument(h hostfacts.Host) HostDocument {
	at := func(micros uint64) *time.Time { return TimeOrNil(hostfacts.Time(micros)) }
	list := func(all []string) []string { return append([]string{}, all...) }
	d := HostDocument{
		State: h.State, Since: at(h.StateSince), Why: h.Why, Status: h.Status, Strategy: h.Strategy, Group: h.Group,
		Gates: []hostGate{}, Next: hostNext{h.Next, at(h.NextAt)}, Slot: hostSlot{h.SlotNeeded, h.SlotHeld, h.SlotBlockedBy},
		Window:   hostWindow{at(h.WindowOpens), h.WindowShutBy, at(h.WindowShuts), at(h.Begins)},
		Reboot:   hostReboot{list(h.Users), at(h.UsersWarned), at(h.RebootAt), h.RebootFinal, h.RebootMode, at(h.GiveUpAt), at(h.DrainUntil)},
		Troubles: list(h.Troubles), LastError: h.LastError, Failed: h.LastRebootFailed, Retries: []hostRetry{}, Undo: []hostToUndo{},
		Refused: h.ConfigRefused,
	}
	if h.RebootNeeded {
		d.Need = &hostNeed{at(h.NeededSince), h.NeededVersion, list(h.NeededBy), list(h.NeededReasons)}
	}
	if h.HeldBackGate != "" {
		d.HeldBack = &hostHeld{h.HeldBackGate, h.HeldBackBy, at(h.PostponableUntil)}
	}
	if h.Health != "" {
		d.Health = &hostHealth{h.Health, h.HealthVersion, at(h.HealthSince), at(h.HealthUntil), h.HealthError}
	}
	for _, g := range h.Gates {
		d.Gates = append(d.Gates, hostGate(g))
	}
	for _, r := range h.Retries {
		d.Retries = append(d.Retries, hostRetry{at(r.At), r.Error})
	}
	for _, u := range h.Undo {
		d.Undo = append(d.Undo, hostToUndo{u.Name, u.Doing, at(u.Settles), at(u.RetryAt), u.Error, u.Advice})
	}
	return d
}
