package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/locksmithd/locksmith/internal/hostbus"
	"github.com/locksmithd/locksmith/internal/hostfacts"
	"github.com/locksmithd/locksmith/internal/terminal"
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

// hostWatcher shows this host while it is watched, as watcher does a lock.
type hostWatcher struct {
	*app
	format view.Format
	screen *terminal.Screen // nil if nothing is drawn in place
	last   *hostfacts.Host  // nil before the first
	err    error            // why last may be out of date
}

// watchHost shows this host until ctx ends, which is not a failure.
func (a *app) watchHost(ctx context.Context, format view.Format) (err error) {
	conn, err := systemd.ConnectSystemBus(ctx)
	if err != nil {
		return explainHost(err)
	}
	defer conn.Close()
	w := &hostWatcher{app: a, format: format}
	if out, ok := file(a.stdout); ok && !format.ForPrograms() && terminal.Redraws(out, a.getenv) {
		if w.screen, err = terminal.Open(out); err != nil {
			return fmt.Errorf("write the result: %w", err)
		}
		defer func() { err = cmp.Or(err, w.screen.Close()) }()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	observed := make(chan func() error)
	ended := make(chan error, 1)
	go func() {
		ended <- hostbus.Watch(ctx, conn, func(h hostfacts.Host, err error) {
			select {
			case observed <- func() error { return w.observe(h, err) }:
			case <-ctx.Done():
			}
		})
	}()
	return w.run(ctx, observed, ended)
}

func (w *hostWatcher) run(ctx context.Context, observed <-chan func() error, ended <-chan error) error {
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
			return explainHost(err)
		case show := <-observed:
			err = show()
		case <-second.C:
			err = w.draw()
		}
		if err != nil {
			return err
		}
	}
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

// draw draws the host in place, if there is a screen.
func (w *hostWatcher) draw() error {
	if w.screen == nil {
		return nil
	}
	width, height := w.screen.Size()
	return w.screen.Draw(view.HostScreen(w.last, w.err, w.now(), width, height))
}
