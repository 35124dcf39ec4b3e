package config

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/locksmithd/locksmith/internal/safetext"
	"github.com/locksmithd/locksmith/internal/zone"
	"github.com/locksmithd/locksmith/window"
)

// Window is when reboots may happen: the openings of a reboot window, or without one all the time, but for the days
// of a blackout. Each call uses the time zone of that moment, because the host's zone, or the rules of a named one,
// may change while a program runs. It is safe for concurrent use.
type Window struct {
	openings *window.Window // nil: it is always open, but for the blackout
	blackout []days         // in order and apart from each other
	zone     *zone.Zone
}

// Next returns the opening that contains t, or else the next one, as times in the window's zone. A zero start means
// that nothing was before the opening, and a zero end that nothing shuts it.
func (w *Window) Next(t time.Time) (start, end time.Time) {
	start, end, _ = w.next(t)
	return start, end
}

// ShutBy names the blackout that keeps the window shut at t, and until it opens: "a blackout from 2026-12-23 to
// 2027-01-02". It is empty if the window is open, or would not open earlier without the blackout.
func (w *Window) ShutBy(t time.Time) string {
	_, _, by := w.next(t)
	var texts []string
	for _, d := range by {
		texts = append(texts, d.blackout())
	}
	return safetext.List(texts)
}

// next is Next, and returns as well which days of the blackout make the opening later than it would be.
func (w *Window) next(t time.Time) (start, end time.Time, by []days) {
	loc := w.zone.Location()
	start, end = w.opening(t, loc)
	for _, d := range w.blackout {
		from, to := d.in(loc)
		switch {
		case !to.After(start) || !from.Before(to): // it is over, or these days do not exist here
		case !end.IsZero() && !from.Before(end):
			return start, end, by
		case from.After(start) && from.After(t):
			return start, from, by
		default: // what of the opening is before the blackout, if anything, is over
			if to.After(t) {
				by = append(by, d)
			}
			start = to
			if !end.IsZero() && !end.After(to) {
				if start, end = w.opening(to, loc); start.Before(to) {
					start = to
				}
			}
		}
	}
	return start, end, by
}

// opening is Next without the blackout.
func (w *Window) opening(t time.Time, loc *time.Location) (start, end time.Time) {
	if w.openings == nil {
		return start, end
	}
	return w.openings.In(loc).Next(t)
}

// Zone returns the IANA name of the window's time zone, "" where it is not known.
func (w *Window) Zone() string { return w.zone.Name() }

// String returns the window's start and length, and the days of the blackout, as one text.
func (w *Window) String() string {
	text := "always"
	if w.openings != nil {
		text = w.openings.String()
	}
	separator := ", except "
	for _, d := range w.blackout {
		text += separator + d.String()
		separator = "; "
	}
	return text
}

// hostZone returns the time zone that the daemon takes for the host's, and a warning if it cannot be used. TZ is not a
// setting, but systemd gives the daemon the TZ of update.conf, and Go follows it. The TZ of the shell that runs
// locksmithctl is the user's.
func (f *fragments) hostZone(o Options) (z *zone.Zone, warning string) {
	tz, set := f.files.lookup("TZ")
	if v, ok := f.environ["TZ"]; ok && f.program == Daemon {
		tz, set = v, true
	}
	var err error
	if !set {
		if z, err = zone.Host(o.Root, o.Warn); err != nil {
			warning = fmt.Sprintf("%v: the host's time zone is taken to be UTC: set it with timedatectl", err)
		}
	} else if z, err = zone.Env(tz.value, o.Root, o.Warn); err != nil {
		in := input{Definition: Definition{Variable: "TZ"}, value: tz.value, origin: tz.origin}
		warning = in.subject() + ": it is not a time zone, and UTC counts: write the IANA name of one that this host knows, such as Europe/Berlin"
	}
	return z, warning
}

// parseWindowZone sets the time zone of the window.
func parseWindowZone(p *parser, name input) (err error) {
	if p.windowZone = p.Zone; name.value == localTime {
		return nil
	}
	if p.windowZone, err = zone.Named(name.value, p.options.Warn); err != nil {
		return name.refuse("it is not a time zone: write the IANA name of a time zone that this host knows, such as Europe/Berlin, or %s for its own", localTime)
	}
	return nil
}

func parseBlackout(p *parser, in input) (err error) {
	if in.value == "" {
		return nil
	}
	if p.blackout, err = parseDays(in.value); err != nil {
		return in.refuse("%w", err)
	}
	for _, d := range p.blackout {
		if d.last.Sub(d.first) > 366*day {
			p.warn("%s: %s is longer than a year: correct it if it is a mistake", in.subject(), d)
		}
	}
	return nil
}

// parseWindow parses the start and the length of the window together, and adds the blackout.
func parseWindow(p *parser) error {
	start, length := p.inputs[nameWindowStart], p.inputs[nameWindowLength]
	switch {
	case start.value == "" && length.value == "" && p.blackout == nil:
		return nil
	case start.value == "" && length.value == "":
		p.Window = &Window{blackout: p.blackout, zone: p.windowZone}
		return nil
	case length.value == "":
		return start.without(length)
	case start.value == "":
		return length.without(start)
	}
	w, clock, err := openings(start.value, length.value, p.windowZone, p.options.Warn)
	var lengthErr *window.LengthError
	switch {
	case errors.As(err, &lengthErr):
		return length.refuse("%w", err)
	case err != nil:
		return start.refuse("%w", err)
	}
	p.Window = &Window{w, p.blackout, clock}
	return nil
}

// openings parses the start and the length of a window, and returns its zone: z, unless the start names another one.
func openings(start, length string, z *zone.Zone, warn func(string)) (*window.Window, *zone.Zone, error) {
	w, err := window.Parse(start, length, z.Location())
	if err == nil && w.Zone() != "" {
		z, err = zone.Named(w.Zone(), warn)
	}
	return w, z, err
}

// NewWindow returns the window of another host, from the texts of its settings and the IANA name of its time zone, as
// they are in its record of the inventory. "" is a setting that is not set, and UTC for the zone. Anybody may have
// written the texts: an error says what is wrong with them, in one line.
func NewWindow(start, length, zoneName, blackout string) (*Window, error) {
	w := &Window{}
	var err error
	if w.zone, err = zone.Named(cmp.Or(zoneName, "UTC"), nil); err != nil {
		return nil, fmt.Errorf("the time zone %q is not known here", shorten(zoneName, maxShown))
	}
	if blackout != "" {
		if w.blackout, err = parseDays(blackout); err != nil {
			return nil, fmt.Errorf("the blackout: %w", err)
		}
	}
	if start != "" || length != "" {
		if w.openings, w.zone, err = openings(start, length, w.zone, nil); err != nil {
			return nil, err
		}
	}
	return w, nil
}
