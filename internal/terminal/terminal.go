// Package terminal draws a view in place on a terminal.
//
// It guarantees that Close restores the terminal, with what was on it before. It does not guarantee that the view is
// harmless: callers escape text that is not their own, and cut lines to the width, as package view does.
package terminal

import (
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Is reports whether f is a terminal.
func Is(f *os.File) bool {
	_, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	return err == nil
}

// Redraws reports whether f is a terminal that can redraw a view, and the environment does not ask for plain output.
func Redraws(f *os.File, getenv func(string) string) bool {
	return Is(f) && getenv("NO_COLOR") == "" && getenv("TERM") != "dumb" && getenv("TERM") != ""
}

// Screen is a terminal while it shows a view.
type Screen struct{ out *os.File }

// Open clears the terminal for a view, until Close.
func Open(out *os.File) (*Screen, error) {
	// The alternate screen, so that Close brings back what was there before; no cursor.
	_, err := io.WriteString(out, "\x1b[?1049h\x1b[?25l\x1b[2J")
	return &Screen{out}, err
}

// Size returns the present width and height of the terminal, in characters and lines.
func (s *Screen) Size() (width, height int) {
	size, err := unix.IoctlGetWinsize(int(s.out.Fd()), unix.TIOCGWINSZ)
	if err != nil || size.Col == 0 || size.Row == 0 {
		return 80, 24
	}
	return int(size.Col), int(size.Row)
}

// Draw replaces what is shown with these lines.
func (s *Screen) Draw(lines []string) error {
	// It clears the rest of each line, and all lines below, instead of the whole screen, which would flicker.
	_, err := io.WriteString(s.out, "\x1b[H"+strings.Join(lines, "\x1b[K\r\n")+"\x1b[K\x1b[J")
	return err
}

// Close restores the terminal.
func (s *Screen) Close() error {
	_, err := io.WriteString(s.out, "\x1b[?25h\x1b[?1049l")
	return err
}
