// Package ptytest opens pseudo terminals (pty(7)) for tests.
//
// It guarantees that they are closed at the end of the test. It makes no terminal the controlling one of a
// process, so a test sends Ctrl-C as a signal.
package ptytest

import (
	"fmt"
	"os"
	"syscall"
	"testing"
	"unsafe"

	"github.com/locksmithd/locksmith/test/must"
)

// Open opens a terminal of 80x24. A program reads and writes program; the test reads the program's output from
// screen and writes its input there. A read from screen fails with EIO once nobody has program open.
func Open(t testing.TB) (program, screen *os.File) {
	t.Helper()
	screen, number := OpenScreen(t, "/dev/ptmx")
	size := [4]uint16{24, 80}
	control(t, screen, syscall.TIOCSWINSZ, unsafe.Pointer(&size))
	program, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	must.Do(t, err)
	t.Cleanup(func() { program.Close() })
	return program, screen
}

// OpenScreen opens the screen of a new terminal of the device at ptmx, and returns the terminal's number.
func OpenScreen(t testing.TB, ptmx string) (screen *os.File, number int32) {
	t.Helper()
	screen, err := os.OpenFile(ptmx, os.O_RDWR|syscall.O_NOCTTY, 0)
	must.Do(t, err)
	t.Cleanup(func() { screen.Close() })
	var unlock int32
	control(t, screen, syscall.TIOCSPTLCK, unsafe.Pointer(&unlock))
	control(t, screen, syscall.TIOCGPTN, unsafe.Pointer(&number))
	return screen, number
}

// control makes an ioctl(2) request to a terminal.
func control(t testing.TB, screen *os.File, request uintptr, argument unsafe.Pointer) {
	t.Helper()
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, screen.Fd(), request, uintptr(argument)); errno != 0 {
		t.Fatal(errno)
	}
}
