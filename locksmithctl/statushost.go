package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/locksmithd/locksmith/internal/hostbus"
	"github.com/locksmithd/locksmith/internal/hostfacts"
	"github.com/locksmithd/locksmith/internal/view"
	"github.com/locksmithd/locksmith/systemd"
)

// explainHost says what to look at if the daemon's state cannot be read.
func explainHost(err error) error {
	switch {
	case errors.Is(err, hostbus.ErrAbsent):
		return fmt.Errorf(`%w: it does not run, or the bus has not let it have its name: see "systemctl status locksmithd"`, err)
	case err != nil:
		return fmt.Errorf(`%w: see "systemctl status locksmithd"`, err)
	}
	return nil
}

// statusOfHost shows what locksmithd on this host does, as it says on the bus.
func (a *app) statusOfHost(ctx context.Context, format view.Format) error {
	conn, err := systemd.ConnectSystemBus(ctx)
	if err != nil {
		return explainHost(err)
	}
	defer conn.Close()
	h, err := hostbus.Read(ctx, conn)
	if err != nil {
		return explainHost(err)
	}
	return a.show(format.Host(h, a.now(), false))
}

// hostWatcher shows this host while it is watched.
type hostWatcher struct {
	display
	last *hostfacts.Host // nil before the first
	err  error           // why last may be out of date
}

// watchHost shows this host until ctx ends, which is not a failure.
func (a *app) watchHost(ctx context.Context, format view.Format) error {
	conn, err := systemd.ConnectSystemBus(ctx)
	if err != nil {
		return explainHost(err)
	}
	defer conn.Close()
	w := &hostWatcher{display: display{app: a, format: format}}
	w.picture = func(now time.Time, width, height int) []string {
		return view.HostScreen(w.last, w.err, now, width, height)
	}
	return showWatch(ctx, &w.display, func(ctx context.Context, observed func(hostfacts.Host, error)) error {
		return explainHost(hostbus.Watch(ctx, conn, observed))
	}, w.observe)
}

// observe records the state, or why there is none, and shows what has changed.
func (w *hostWatcher) observe(h hostfacts.Host, failure error) error {
	failure = explainHost(failure)
	before, news := w.err, w.last == nil || w.last.Status != h.Status || w.format.ForPrograms() || w.err != nil
	if w.err = failure; failure == nil {
		w.last = &h
	}
	switch {
	case w.screen != nil:
		return w.draw()
	case failure != nil && (before == nil || before.Error() != failure.Error()):
		w.note("%v; still watching", failure)
		return nil
	case failure != nil || !news:
		return nil
	case w.format.ForPrograms():
		return w.show(w.format.Host(h, w.now(), true))
	}
	return w.print(view.HostLine(h, w.now()))
}
