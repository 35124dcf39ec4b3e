package main

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/locksmithd/locksmith/internal/safetext"
	"github.com/locksmithd/locksmith/internal/terminal"
	"github.com/locksmithd/locksmith/lock"
)

// progress is how the reboots of a group go on, as far as it was watched.
type progress struct {
	started time.Time
	last    *lock.Overview // nil before the first
	done    int            // slots given back
	recent  []time.Time    // when the last of them were
}

// recently is how many slots that were given back the rate is made of.
const recently = 20

// change is what has happened since the last overview.
type change struct {
	took, gave []lock.HolderInfo
	paused     bool // began or ended, or became another
}

// see takes note of what is there now.
func (p *progress) see(o lock.Overview, now time.Time) change {
	var c change
	if p.last == nil {
		p.started = now
	} else {
		c.gave = without(p.last.Holders, o.Holders)
		c.took = without(o.Holders, p.last.Holders)
		c.paused = pauseText(p.last.Pause, time.Time{}) != pauseText(o.Pause, time.Time{})
	}
	for range c.gave {
		p.done++
		p.recent = append(p.recent, now)
	}
	p.recent = p.recent[max(0, len(p.recent)-recently):]
	p.last = &o
	return c
}

// without returns the holders that are not among others.
func without(holders, others []lock.HolderInfo) []lock.HolderInfo {
	return slices.DeleteFunc(slices.Clone(holders), func(h lock.HolderInfo) bool {
		return slices.ContainsFunc(others, func(o lock.HolderInfo) bool { return o.ID == h.ID })
	})
}

// pace returns how long a reboot took of late, on the whole fleet's average; 0 if there was none.
func (p *progress) pace(now time.Time) time.Duration {
	from, n := p.started, len(p.recent)
	if p.done > n { // those before the first of them are not known
		from, n = p.recent[0], n-1
	}
	if n == 0 {
		return 0
	}
	return now.Sub(from) / time.Duration(n)
}

// perHour is how many hosts reboot in an hour; 0 if none did.
func (p *progress) perHour(now time.Time) float64 {
	if each := p.pace(now); each > 0 {
		return float64(time.Hour) / float64(each)
	}
	return 0
}

// rate says how fast hosts reboot.
func (p *progress) rate(now time.Time) string {
	text := fmt.Sprintf("%d since %s", p.done, p.started.Format(time.TimeOnly))
	if n := p.perHour(now); n > 0 {
		text += fmt.Sprintf(", %.1f an hour", n)
	}
	return text
}

// remaining estimates how long it takes until nobody waits or holds a slot any more, if it goes on like
// that. Otherwise why says why there is no end to be estimated.
func (p *progress) remaining(now time.Time) (d time.Duration, why string) {
	left := len(p.last.Holders) + len(p.last.Queue)
	each := p.pace(now)
	switch {
	case left == 0:
		return 0, "nobody waits"
	case p.last.Pause != nil:
		return 0, "not in sight while paused"
	case p.last.Semaphore.Max == 0 && len(p.last.Queue) > 0:
		return 0, "not in sight while max is 0"
	case each == 0:
		return 0, "to be estimated after the first reboot"
	case each > longest/time.Duration(left):
		return 0, "not in sight"
	}
	return each * time.Duration(left), ""
}

func (p *progress) end(now time.Time) string {
	remaining, why := p.remaining(now)
	if why != "" {
		return why
	}
	return fmt.Sprintf("in about %s, %s", age(remaining), now.Add(remaining).Format(layout))
}

func (p *progress) report(now time.Time) *progressReport {
	r := &progressReport{Since: p.started.UTC(), Reboots: p.done}
	if n := p.perHour(now); n > 0 {
		r.PerHour = &n
	}
	if remaining, why := p.remaining(now); why == "" {
		r.End = known(now.Add(remaining))
	}
	return r
}

// line tells a change.
func (p *progress) line(c change, now time.Time) string {
	o := p.last
	var parts []string
	if len(c.gave) > 0 {
		parts = append(parts, "given back by "+names(c.gave))
	}
	if len(c.took) > 0 {
		parts = append(parts, "taken by "+names(c.took))
	}
	if c.paused {
		parts = append(parts, "paused: "+pauseText(o.Pause, now))
	}
	parts = append(parts, fmt.Sprintf("%d of %d available", o.Semaphore.Free, o.Semaphore.Max), fmt.Sprintf("%d waiting", len(o.Queue)),
		"reboots: "+p.rate(now), "end: "+p.end(now))
	return now.Format(layout) + "  " + strings.Join(parts, "; ") + "\n"
}

// maxViewID is how much of an id a terminal shows, in bytes: a machine id has 32.
const maxViewID = 36

// view is what a terminal of that size shows. failure, if there is one, says why
// it may be out of date.
func (p *progress) view(group, failure string, now time.Time, width, height int) []string {
	head := []string{fmt.Sprintf("locksmith, group %s   %s", groupName(group), now.Format(layout))}
	switch {
	case p.last == nil && failure == "":
		return fit(append(head, "", "asking etcd ..."), width, height)
	case p.last == nil:
		return fit(append(head, "", "nothing is known: "+safetext.Cut(failure, maxNote)), width, height)
	case failure != "":
		head = append(head, "OUT OF DATE: "+safetext.Cut(failure, maxNote))
	}
	o := p.last
	head = append(head,
		fmt.Sprintf("slots:   %d of %d available, %d held, %d waiting", o.Semaphore.Free, o.Semaphore.Max, len(o.Holders), len(o.Queue)),
		"paused:  "+pauseText(o.Pause, now),
		"reboots: "+p.rate(now),
		"end:     "+p.end(now))
	// Half of the room is for the holders, unless the queue needs less.
	holders, queue := p.holderLines(now), p.queueLines(now)
	room := max(0, height-len(head))
	return fit(slices.Concat(head, shorten(holders, max(room/2, room-len(queue))), shorten(queue, max(room/2, room-len(holders)))), width, height)
}

func (p *progress) holderLines(now time.Time) []string {
	if len(p.last.Holders) == 0 {
		return nil
	}
	return append([]string{""}, strings.Split(strings.TrimSuffix(holdersTable(p.last.Holders, now, maxViewID), "\n"), "\n")...)
}

func (p *progress) queueLines(now time.Time) []string {
	if len(p.last.Queue) == 0 {
		return nil
	}
	var b strings.Builder
	table := newTable(&b, "PLACE", "MACHINE ID", "HOSTNAME", "VERSION", "WAITS")
	for i, w := range p.last.Queue {
		waits := ""
		if !w.Since.IsZero() {
			waits = age(now.Sub(w.Since))
		}
		table.row(fmt.Sprint(i+1), safetext.Cut(w.ID, maxViewID), safetext.Cut(w.Hostname, maxName), safetext.Cut(w.Version, maxName), waits)
	}
	table.end()
	return append([]string{""}, strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")...)
}

// shorten makes the lines of a table no more than n.
func shorten(lines []string, n int) []string {
	if len(lines) <= n {
		return lines
	}
	if n < 4 {
		return nil // no room for an empty line, a head, somebody and how many more
	}
	return append(slices.Clone(lines[:n-1]), fmt.Sprintf("and %d more", len(lines)-n+1))
}

// fit cuts lines to the size of a terminal.
func fit(lines []string, width, height int) []string {
	lines = lines[:min(len(lines), max(1, height))]
	for i := range lines {
		lines[i] = terminal.Cut(strings.TrimRight(lines[i], " "), width)
	}
	return lines
}

// sighting is what was seen of a lock, or why nothing was.
type sighting struct {
	overview lock.Overview
	err      error
}

// watchStatus shows a lock until ctx ends, which is no failure.
func (a *app) watchStatus(ctx context.Context, s session, format format) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	seen := make(chan sighting)
	ended := make(chan error, 1)
	go func() {
		ended <- s.WatchOverview(ctx, func(o lock.Overview, err error) {
			select {
			case seen <- sighting{o, err}:
			case <-ctx.Done():
			}
		})
	}()
	show, done, err := a.shower(s.settings.Group, format)
	if err != nil {
		return err
	}
	err = a.showUntil(ctx, seen, ended, show)
	if failed := done(); err == nil {
		err = failed
	}
	return err
}

// showUntil calls show with all that is seen, and with nil when a second has gone
// by, until it fails or the watching ends.
func (a *app) showUntil(ctx context.Context, seen <-chan sighting, ended <-chan error, show func(*sighting) error) error {
	second := time.NewTicker(time.Second)
	defer second.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case err := <-ended:
			if ctx.Err() != nil {
				return nil
			}
			return err
		case s := <-seen:
			err = show(&s)
		case <-second.C:
			err = show(nil)
		}
		if err != nil {
			return err
		}
	}
}

// shower returns what shows the state of a lock: on a terminal in place, elsewhere, or in a
// format for programs, one after the other. done is called at the end.
func (a *app) shower(group string, format format) (show func(*sighting) error, done func() error, err error) {
	p := &progress{}
	var shown *lock.Overview
	failure := ""
	plain := func(s *sighting) error {
		switch {
		case s == nil:
			return nil
		case s.err != nil:
			if text := s.err.Error(); text != failure {
				failure = text
				a.note("%s; still trying", text)
			}
			return nil
		}
		failure = ""
		if shown != nil && reflect.DeepEqual(*shown, s.overview) {
			return nil // what was written is of no account here, or nothing was for a long time
		}
		shown = &s.overview
		now := a.now()
		c := p.see(s.overview, now)
		if format == formatJSON || format == formatYAML {
			r := newReport(group, s.overview)
			r.Progress = p.report(now)
			text, err := format.document(r)
			if err != nil {
				return err
			}
			return a.print(text)
		}
		return a.print(p.line(c, now))
	}
	out, ok := file(a.stdout)
	if !ok || format == formatJSON || format == formatYAML || !terminal.Redraws(out, a.getenv) {
		return plain, func() error { return nil }, nil
	}
	screen, err := terminal.Open(out)
	if err != nil {
		return nil, nil, fmt.Errorf("write the result: %w", err)
	}
	live := func(s *sighting) error {
		switch {
		case s == nil:
		case s.err != nil:
			failure = s.err.Error()
		default:
			failure = ""
			p.see(s.overview, a.now())
		}
		width, height := screen.Size()
		return screen.Draw(p.view(group, failure, a.now(), width, height))
	}
	return live, screen.Close, nil
}
