package main

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/locksmithd/locksmith/internal/terminal"
	"github.com/locksmithd/locksmith/internal/view"
	"github.com/locksmithd/locksmith/lock"
)

// display shows something while it is watched: on a terminal in place, elsewhere, or in a format for programs, one
// change after the other.
type display struct {
	*app
	format  view.Format
	picture func(now time.Time, width, height int) []string // the lines that are drawn in place
	screen  *terminal.Screen                                // nil if nothing is drawn in place
}

// showWatch calls observe with what watch reports, one after the other, and draws the picture every second, until ctx
// ends, which is not a failure.
func showWatch[T any](ctx context.Context, d *display, watch func(context.Context, func(T, error)) error, observe func(T, error) error) (err error) {
	if out, ok := file(d.stdout); ok && !d.format.ForPrograms() && terminal.Redraws(out, d.getenv) {
		if d.screen, err = terminal.Open(out); err != nil {
			return fmt.Errorf("write the result: %w", err)
		}
		defer func() { err = cmp.Or(err, d.screen.Close()) }()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	observed := make(chan func() error)
	ended := make(chan error, 1)
	go func() {
		ended <- watch(ctx, func(v T, failure error) {
			select {
			case observed <- func() error { return observe(v, failure) }:
			case <-ctx.Done():
			}
		})
	}()
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
		case show := <-observed:
			err = show()
		case <-second.C:
			err = d.draw()
		}
		if err != nil {
			return err
		}
	}
}

// draw draws the picture, if there is a screen.
func (d *display) draw() error {
	if d.screen == nil {
		return nil
	}
	width, height := d.screen.Size()
	return d.screen.Draw(d.picture(d.now(), width, height))
}

// lockWatcher shows a lock while it is watched.
type lockWatcher struct {
	display
	watch *view.Watch
}

// watchStatus shows a lock until ctx ends, which is not a failure.
func (a *app) watchStatus(ctx context.Context, s session, format view.Format) error {
	watch := view.NewWatch(s.settings.Group)
	w := &lockWatcher{display{app: a, format: format, picture: watch.Screen}, watch}
	return showWatch(ctx, &w.display, s.WatchOverview, w.observe)
}

// observe records an overview, or why there is none, and shows what has changed.
func (w *lockWatcher) observe(o lock.Overview, failure error) error {
	now := w.now()
	changed := false
	if failure != nil {
		changed = w.watch.Fail(failure)
	} else {
		changed = w.watch.Observe(o, now)
	}
	switch {
	case w.screen != nil:
		return w.draw()
	case !changed:
		return nil
	case failure != nil:
		w.note("%v; still trying", failure)
		return nil
	case w.format.ForPrograms():
		return w.show(w.watch.Document(w.format, now))
	}
	return w.print(w.watch.Line(now))
}
