package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// screen shows a run while it goes on.
type screen interface {
	// show is called after each event.
	show(r *referee, e event) error
	// tick is called some times a second.
	tick(r *referee) error
	// close is called once, and gives the terminal back.
	close() error
}

// newScreen returns a table if out is a terminal that can show one, and plain
// lines otherwise, or where the environment asks for plain output.
func newScreen(out *os.File, getenv func(string) string) (screen, error) {
	_, _, terminal := terminalSize(out)
	if !terminal || getenv("NO_COLOR") != "" || getenv("TERM") == "dumb" || getenv("TERM") == "" {
		return &plain{out}, nil
	}
	s := &live{out}
	// The alternate screen, so that what was there before comes back; no cursor.
	_, err := io.WriteString(out, "\x1b[?1049h\x1b[?25l\x1b[2J")
	return s, err
}

// plain prints a line for each thing that happens.
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
	out *os.File
}

func (l *live) show(*referee, event) error { return nil } // the next tick shows it

func (l *live) tick(r *referee) error {
	width, height, ok := terminalSize(l.out)
	if !ok || width == 0 || height == 0 {
		width, height = 80, 24
	}
	lines := table(r, time.Now(), width, height)
	// Each line is cleared behind its end and all below the last, so that nothing flickers.
	_, err := io.WriteString(l.out, "\x1b[H"+strings.Join(lines, "\x1b[K\r\n")+"\x1b[K\x1b[J")
	return err
}

func (l *live) close() error {
	_, err := io.WriteString(l.out, "\x1b[?25h\x1b[?1049l")
	return err
}

// terminalSize asks a terminal for its size, ioctl_tty(2). ok is false for what
// is no terminal.
func terminalSize(f *os.File) (width, height int, ok bool) {
	var size struct{ rows, columns, x, y uint16 }
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), syscall.TIOCGWINSZ, uintptr(unsafe.Pointer(&size)))
	return int(size.columns), int(size.rows), errno == 0
}
