package config

import (
	"errors"
	"fmt"
	"time"

	"github.com/locksmithd/locksmith/internal/zone"
	"github.com/locksmithd/locksmith/window"
)

// Window is a reboot window on the clock of its time zone, as that is when it is asked: the
// host's, or the rules of a named one, may change while a program runs. It is
// safe for concurrent use.
type Window struct {
	window *window.Window
	zone   *zone.Zone
}

func (w *Window) now() *window.Window { return w.window.In(w.zone.Location()) }

// Open reports whether the window is open at t.
func (w *Window) Open(t time.Time) bool { return w.now().Open(t) }

// Next returns the opening that contains t, or else the next one, as times in the window's zone.
func (w *Window) Next(t time.Time) (start, end time.Time) { return w.now().Next(t) }

// String returns the window's start and length as one text.
func (w *Window) String() string { return w.window.String() }

// hostZone returns the time zone that the daemon takes for the host's, and a warning if it
// cannot be used. TZ is for the C library and Go, not a setting, but systemd gives the
// daemon the one that update.conf has. That of the shell that runs locksmithctl is the user's.
func (l *Loader) hostZone(files confFiles) (z *zone.Zone, warning string) {
	if l.daemon != nil {
		return l.daemon.hostZone(files)
	}
	tz, from, set := "", l.origins["TZ"], false
	if l.options.Program == Daemon {
		tz, set = l.environ["TZ"]
	}
	if a, path, ok := files.lookup("TZ"); ok && !set {
		tz, from, set = a.value, Origin{File: path, Line: a.line}, true
	}
	var err error
	if !set {
		if z, err = zone.Host(l.options.Root, l.options.Warn); err != nil {
			warning = fmt.Sprintf("%v: the host's time zone is taken to be UTC: set it with timedatectl", err)
		}
	} else if z, err = zone.Env(tz, l.options.Root, l.options.Warn); err != nil {
		r := resolved{Definition: Definition{Variable: "TZ"}, value: tz, origin: from}
		warning = r.subject() + ": it is not a time zone, and UTC counts: write the IANA name of one that this host knows, such as Europe/Berlin"
	}
	return z, warning
}

// parseWindow returns nil for no window.
func (c *Config) parseWindow(start, length, name resolved, warn func(string)) error {
	clock, zoneErr := c.Zone, error(nil)
	if name.value != localTime {
		if clock, zoneErr = zone.Named(name.value, warn); zoneErr != nil {
			// It goes on, to see what else is wrong.
			zoneErr = name.refuse("it is no time zone: write the IANA name of a time zone that this host knows, such as Europe/Berlin, or %s for its own", localTime)
		}
	}
	if start.value == "" && length.value == "" {
		return zoneErr
	}
	if err := bothOrNeither(start, length); err != nil {
		return errors.Join(zoneErr, err)
	}
	w, err := window.Parse(start.value, length.value, clock.Location())
	var lengthErr *window.LengthError
	switch {
	case errors.As(err, &lengthErr):
		err = length.refuse("%w", err)
	case err != nil:
		err = start.refuse("%w", err)
	case w.Zone() != "":
		if clock, err = zone.Named(w.Zone(), warn); err != nil {
			err = start.refuse("%w", err)
		}
	}
	if err = errors.Join(zoneErr, err); err == nil {
		c.Window = &Window{w, clock}
	}
	return err
}
