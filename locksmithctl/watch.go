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

// watcher shows a lock while it is watched: on a terminal in place, elsewhere, or in a format for programs, one
// change after the other.
type watcher struct {
	*app
	format view.Format
	watch  *view.Watch
	screen *terminal.Screen // nil if nothing is drawn in place
}

// watchStatus shows a lock until ctx ends, which is not a failure.
func (a *app) watchStatus(ctx context.Context, s session, format view.Format) (err error) {
	w := &watcher{app: a, format: format, watch: view.NewWatch(s.settings.Group)}
	if out, ok := file(a.stdout); ok && !format.ForPrograms() && terminal.Redraws(out, a.getenv) {
		if w.screen, err = terminal.Open(out); err != nil {
			return fmt.Errorf("write the result: %w", err)
		}
		defer func() { err = cmp.Or(err, w.screen.Close()) }()
	}
	return w.run(ctx, s)
}

func (w *watcher) run(ctx context.Context, s session) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	observed := make(chan func() error)
	ended := make(chan error, 1)
	go func() {
		ended <- s.WatchOverview(ctx, func(o lock.Overview, err error) {
			select {
			case observed <- func() error { return w.observe(o, err) }:
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
			err = w.draw()
		}
		if err != nil {
			return err
		}
	}
}

// observe records an overview, or why there is none, and shows what has changed.
func (w *watcher) observe(o lock.Overview, failure error) error {
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

// draw draws the lock in place, if there is a screen.
func (w *watcher) draw() error {
	if w.screen == nil {
		return nil
	}
	width, height := w.screen.Size()
	return w.screen.Draw(w.watch.Screen(w.now(), width, height))
}
