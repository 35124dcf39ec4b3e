package policy

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// A Source is who says that a reboot is needed.
type Source struct {
	Name string
	// Follows names the source that this one depends on: when that one withdraws its update, this one's request is
	// dropped as well, and its version counts before this one's.
	Follows string
	// Outlives says that the request is kept for the next process, since this source does not repeat itself.
	Outlives bool
}

var (
	// Engine is update_engine: what it says last is true. It reports progress all day long.
	Engine = Source{Name: "update_engine"}
	// Sentinel is the file by which packages say that a reboot is needed, such as /run/reboot-required.
	Sentinel = Source{Name: "sentinel"}
	// SentinelCommand is a command of the operator that says whether a reboot is needed.
	SentinelCommand = Source{Name: "sentinel command"}
	// Requester is a person or a script (locksmithctl send-need-reboot).
	Requester = Source{Name: "request", Follows: Engine.Name, Outlives: true}
)

// triggers is what the sources said.
type triggers struct {
	sources []trigger // others are added once they speak, or are known to do so
	since   time.Time // since when a reboot is needed; zero: it is not
	version string    // for which, if known
	from    string    // the source that named it; "" for an earlier process
}

type trigger struct {
	Source
	pending bool   // it needs a reboot
	reason  string // why, in its words; "" if it has none
	err     error  // why it does not say whether it does, or what else somebody has to see to
	heard   bool   // it has said something since the start, or cannot
	changed bool   // it has said since the start that it needs none
	soft    bool   // it says that a soft reboot is enough
	kernel  bool   // it needs another kernel, or has done so since it needs a reboot
}

func newTriggers(sources ...Source) (t triggers) {
	for _, s := range sources {
		t.sources = append(t.sources, trigger{Source: s})
	}
	return t
}

// find returns a source's entry, nil for an unknown name.
func (t *triggers) find(name string) *trigger {
	for i := range t.sources {
		if t.sources[i].Name == name {
			return &t.sources[i]
		}
	}
	return nil
}

// of returns the entry of a source, and adds one if there is none. The pointer is good until another source is added.
func (t *triggers) of(s Source) *trigger {
	if e := t.find(s.Name); e != nil {
		return e
	}
	t.sources = append(t.sources, trigger{Source: s})
	return &t.sources[len(t.sources)-1]
}

// newOS reports whether the version for which a reboot is needed is that of the operating system.
func (m *Machine) newOS() bool { return m.triggers.find(Engine.Name).pending }

func (t *triggers) pending() bool {
	return slices.ContainsFunc(t.sources, func(e trigger) bool { return e.pending })
}

// unheard names the sources that will say something, and have not yet.
func (t *triggers) unheard() []string {
	return t.names(func(e trigger) bool { return !e.heard && !e.Outlives })
}

func (t *triggers) names(which func(trigger) bool) (names []string) {
	for _, e := range t.sources {
		if which(e) {
			names = append(names, e.Name)
		}
	}
	return names
}

// reasons says why a reboot is needed, a text for each source that needs one.
func (t *triggers) reasons() (reasons []string) {
	for _, e := range t.sources {
		if e.pending {
			reasons = append(reasons, cmp.Or(e.reason, e.Name))
		}
	}
	return reasons
}

// words returns the reasons of the sources that have words for them.
func (t *triggers) words() string {
	var texts []string
	for _, e := range t.sources {
		if e.pending && e.reason != "" {
			texts = append(texts, e.reason)
		}
	}
	return strings.Join(texts, ", ")
}

// needsKernel says which sources need another kernel; "" if none does.
func (t *triggers) needsKernel() string {
	var reasons []string
	for _, e := range t.sources {
		if e.pending && e.kernel {
			reasons = append(reasons, cmp.Or(e.reason, e.Name))
		}
	}
	return strings.Join(reasons, ", ")
}

// troubles says what somebody has to see to, such as why sources do not say whether a reboot is needed.
func (t *triggers) troubles() (texts []string) {
	for _, e := range t.sources {
		if e.err != nil {
			texts = append(texts, e.err.Error())
		}
	}
	return texts
}

func (u Update) fold(m *Machine, now time.Time) {
	t := &m.triggers
	was, e, leader := t.pending(), t.of(u.Source), t.find(u.Source.Follows)
	if e.pending && !u.Pending {
		for i := range t.sources {
			if t.sources[i].Follows == e.Name {
				t.sources[i].pending = false
			}
		}
	}
	e.pending, e.reason, e.err, e.heard = u.Pending, u.Reason, u.Trouble, true
	e.soft = u.Soft
	e.kernel = u.Pending && (u.Kernel || e.kernel) // SUSE's file has only what the last packages need
	e.changed = e.changed || !u.Pending
	if !t.pending() {
		t.since, t.version, t.from = time.Time{}, "", ""
		if was || !u.Source.Outlives && len(t.unheard()) == 0 {
			m.people.forget("")
		}
		return
	}
	if !was {
		t.since = now
	}
	if u.Pending && u.Version != "" && (leader == nil || !leader.pending || t.version == "") {
		t.version, t.from = u.Version, e.Name
	} else if from := t.find(t.from); from != nil && !from.pending { // the others need a reboot for something else
		t.version, t.from = "", ""
	}
	m.people.holdBack(t.version)
}

func (e Absent) fold(m *Machine, now time.Time) {
	t := m.triggers.of(e.Source)
	t.err, t.heard = e.Err, true
}

// kept is what the next process has to know.
func (t *triggers) kept(stamp func(time.Time) time.Time) (r KeptRequest) {
	names := t.names(func(e trigger) bool { return e.pending && e.Outlives })
	if len(names) > 0 {
		r = KeptRequest{Since: stamp(t.since), Version: t.version, Sources: strings.Join(names, " ")}
	}
	return r
}

// remember takes in what the process before this one was told.
func (t *triggers) remember(r KeptRequest, since time.Time) {
	if since.IsZero() {
		return
	}
	names := strings.Fields(cmp.Or(r.Sources, Requester.Name)) // an earlier version knew no other
	for i := range t.sources {
		t.sources[i].pending = t.sources[i].Outlives && slices.Contains(names, t.sources[i].Name)
	}
	t.since, t.version = since, r.Version
}
