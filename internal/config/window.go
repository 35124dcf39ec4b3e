package config

import (
	"errors"
	"fmt"
	"time"

	"github.com/locksmithd/locksmith/internal/zone"
	"github.com/locksmithd/locksmith/window"
)

// Window is a reboot window in its time zone. Each call uses the zone of that moment, because the host's zone, or
// the rules of a named one, may change while a program runs. It is safe for concurrent use.
type Window struct {
	window *window.Window
	zone   *zone.Zone
}

func (w *Window) now() *window.Window { return w.window.In(w.zone.Location()) }

// Next returns the opening that contains t, or else the next one, as times in the window's zone.
func (w *Window) Next(t time.Time) (start, end time.Time) { return w.now().Next(t) }

// String returns the window's start and length as one text.
func (w *Window) String() string { return w.window.String() }

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

// parseWindow parses the start and the length of the window together.
func parseWindow(p *parser) error {
	start, length := p.inputs[nameWindowStart], p.inputs[nameWindowLength]
	switch {
	case start.value == "" && length.value == "":
		return nil
	case length.value == "":
		return start.without(length)
	case start.value == "":
		return length.without(start)
	}
	clock := p.windowZone
	w, err := window.Parse(start.value, length.value, clock.Location())
	var lengthErr *window.LengthError
	switch {
	case errors.As(err, &lengthErr):
		return length.refuse("%w", err)
	case err != nil:
		return start.refuse("%w", err)
	case w.Zone() != "":
		if clock, err = zone.Named(w.Zone(), p.options.Warn); err != nil {
			return start.refuse("%w", err)
		}
	}
	p.Window = &Window{w, clock}
	return nil
}
