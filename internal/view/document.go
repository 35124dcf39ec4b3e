package view

import (
	"time"

	"github.com/locksmithd/locksmith/lock"
)

// Document is what scripts read about a group, in JSON and YAML. Fields may be added; existing ones stay;
// the help of "locksmithctl status" describes them.
type Document struct {
	Group     string            `json:"group" yaml:"group"`
	Available int               `json:"available" yaml:"available"`
	Max       int               `json:"max" yaml:"max"`
	Paused    *pauseDocument    `json:"paused" yaml:"paused"`
	Holders   []holderDocument  `json:"holders" yaml:"holders"`
	Queue     []queueDocument   `json:"queue" yaml:"queue"`
	Unwell    []unwellDocument  `json:"unwell,omitempty" yaml:"unwell,omitempty"`
	Progress  *progressDocument `json:"progress,omitempty" yaml:"progress,omitempty"`
}

type pauseDocument struct {
	By         string     `json:"by" yaml:"by"`
	Reason     string     `json:"reason" yaml:"reason"`
	Since      *time.Time `json:"since" yaml:"since"`
	Until      *time.Time `json:"until" yaml:"until"`
	AllGroups  bool       `json:"all_groups" yaml:"all_groups"`
	Unreadable bool       `json:"unreadable" yaml:"unreadable"`
}

type holderDocument struct {
	ID         string     `json:"id" yaml:"id"`
	Hostname   string     `json:"hostname" yaml:"hostname"`
	BootID     string     `json:"boot_id" yaml:"boot_id"`
	Since      *time.Time `json:"since" yaml:"since"`
	By         string     `json:"by" yaml:"by"`
	Version    string     `json:"version" yaml:"version"`
	Reason     string     `json:"reason,omitempty" yaml:"reason,omitempty"`
	Expired    bool       `json:"expired" yaml:"expired"`
	Unreadable bool       `json:"unreadable" yaml:"unreadable"`
	OSVersion  string     `json:"os_version,omitempty" yaml:"os_version,omitempty"`
	Phase      string     `json:"phase,omitempty" yaml:"phase,omitempty"`
	PhaseSince *time.Time `json:"phase_since,omitempty" yaml:"phase_since,omitempty"`
	PhaseWhy   string     `json:"phase_why,omitempty" yaml:"phase_why,omitempty"`
}

type queueDocument struct {
	ID       string     `json:"id" yaml:"id"`
	Hostname string     `json:"hostname" yaml:"hostname"`
	Since    *time.Time `json:"since" yaml:"since"`
	Version  string     `json:"version" yaml:"version"`
	Reason   string     `json:"reason,omitempty" yaml:"reason,omitempty"`
	Place    int        `json:"place" yaml:"place"`
}

type unwellDocument struct {
	ID         string     `json:"id" yaml:"id"`
	Hostname   string     `json:"hostname" yaml:"hostname"`
	BootID     string     `json:"boot_id" yaml:"boot_id"`
	Version    string     `json:"version" yaml:"version"`
	Since      *time.Time `json:"since" yaml:"since"`
	Why        string     `json:"why" yaml:"why"`
	Resumed    bool       `json:"resumed" yaml:"resumed"`
	Left       bool       `json:"left" yaml:"left"`
	Unreadable bool       `json:"unreadable" yaml:"unreadable"`
}

type progressDocument struct {
	Since   time.Time  `json:"since" yaml:"since"`
	Reboots int        `json:"reboots" yaml:"reboots"`
	PerHour *float64   `json:"per_hour" yaml:"per_hour"`
	End     *time.Time `json:"end" yaml:"end"`
}

func newDocument(g lock.GroupOverview) Document {
	d := Document{Group: g.Group, Available: g.Semaphore.Free, Max: g.Semaphore.Max, Holders: []holderDocument{}, Queue: []queueDocument{}}
	if p := g.Pause; p != nil {
		d.Paused = newPause(p)
	}
	for _, h := range g.Holders {
		d.Holders = append(d.Holders, holderDocument{
			ID: h.ID, Hostname: h.Record.Hostname, BootID: h.Record.BootID, Since: TimeOrNil(h.Record.Since),
			By: h.Record.By, Version: h.Record.Version, Reason: h.Record.Reason, Expired: h.Expired, Unreadable: h.Broken,
			OSVersion: h.Record.OSVersion, Phase: string(h.Record.Phase), PhaseSince: TimeOrNil(h.Record.PhaseSince), PhaseWhy: h.Record.PhaseWhy,
		})
	}
	for i, w := range g.Queue {
		d.Queue = append(d.Queue, queueDocument{
			ID: w.ID, Hostname: w.Hostname, Since: TimeOrNil(w.Since), Version: w.Version, Reason: w.Reason, Place: i + 1,
		})
	}
	for _, u := range g.Unwell {
		d.Unwell = append(d.Unwell, unwellDocument{
			ID: u.ID, Hostname: u.Hostname, BootID: u.BootID, Version: u.Version, Since: TimeOrNil(u.Since), Why: u.Why,
			Resumed: u.Resumed, Left: u.Left, Unreadable: u.Broken,
		})
	}
	return d
}

func newPause(p *lock.Pause) *pauseDocument {
	return &pauseDocument{By: p.By, Reason: p.Reason, Since: TimeOrNil(p.Since), Until: TimeOrNil(p.Until), AllGroups: p.All, Unreadable: p.Broken}
}

// Document writes the lock for programs, with its progress.
func (w *Watch) Document(f Format, now time.Time) (string, error) {
	d := newDocument(lock.GroupOverview{Group: w.group, Overview: *w.last})
	d.Progress = &progressDocument{Since: w.started.UTC(), Reboots: w.released}
	if n := w.perHour(now); n > 0 {
		d.Progress.PerHour = &n
	}
	end, _ := w.end(now)
	d.Progress.End = TimeOrNil(end)
	return f.marshalOne(d)
}

// TimeOrNil returns a time as documents have it: in UTC, nil for one that is not known.
func TimeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return new(t.UTC())
}
