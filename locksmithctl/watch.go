package main

import (
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
		defer func() {
			if failed := w.screen.Close(); err == nil {
				err = failed
			}
		}()
	}
	return w.run(ctx, s)
}

// observation is an overview of a lock, or why there is none.
type observation struct {
	overview lock.Overview
	err      error
}

func (w *watcher) run(ctx context.Context, s session) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	observed := make(chan observation)
	ended := make(chan error, 1)
	go func() {
		ended <- s.WatchOverview(ctx, func(o lock.Overview, err error) {
			select {
			case observed <- observation{o, err}:
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
		case o := <-observed:
			err = w.observe(o)
		case <-second.C:
			err = w.draw()
		}
		if err != nil {
			return err
		}
	}
}

// observe shows what has changed.
func (w *watcher) observe(o observation) error {
	now := w.now()
	changed := false
	if o.err != nil {
		changed = w.watch.Fail(o.err)
	} else {
		changed = w.watch.Observe(o.overview, now)
	}
	switch {
	case w.screen != nil:
		return w.draw()
	case !changed:
		return nil
	case o.err != nil:
		w.note("%v; still trying", o.err)
		return nil
	case w.format.ForPrograms():
		text, err := w.watch.Document(w.format, now)
		if err != nil {
			return err
		}
		return w.print(text)
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
