package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/locksmithd/locksmith/internal/terminal"
)

// screen shows a run in progress.
type screen interface {
	// show is called after each event.
	show(r *referee, e event) error
	// tick is called several times a second.
	tick(r *referee) error
	// close is called once, and restores the terminal.
	close() error
}

// newScreen returns a table if out is a terminal that can redraw one, and plain lines otherwise, or if the
// environment asks for plain output.
func newScreen(out *os.File, getenv func(string) string) (screen, error) {
	if !terminal.Redraws(out, getenv) {
		return &plain{out}, nil
	}
	s, err := terminal.Open(out)
	return &live{Screen: s, out: out}, err
}

// plain prints a line for each event.
type plain struct {
	out io.Writer
}

func (p *plain) show(r *referee, e event) error {
	if text := line(r, e); text != "" {
		_, err := fmt.Fprintln(p.out, text)
		return err
	}
	return nil
}

func (p *plain) tick(*referee) error { return nil }
func (p *plain) close() error        { return nil }

// live redraws a table in place.
type live struct {
	*terminal.Screen
	out  io.Writer
	stay string // what is shown once the table is gone
}

// show leaves most events to the next tick, which shows what they have changed.
func (l *live) show(r *referee, e event) error {
	if e.Kind == shown {
		l.stay += line(r, e) + "\n"
	}
	return nil
}

func (l *live) tick(r *referee) error {
	width, height := l.Size()
	return l.Draw(table(r, time.Now(), width, height))
}

func (l *live) close() error {
	err := l.Close()
	_, failed := io.WriteString(l.out, l.stay)
	return errors.Join(err, failed)
}
