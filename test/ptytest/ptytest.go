// Package ptytest opens pseudo terminals for tests, pty(7).
//
// It guarantees that they are closed with the test. It makes no terminal the
// controlling one of a process: a Ctrl-C is to be sent as a signal.
package ptytest

import (
	"fmt"
	"os"
	"syscall"
	"testing"
	"unsafe"

	"github.com/locksmithd/locksmith/test/must"
)

// Open opens a terminal of 80x24: program is where a program's output goes and
// its input comes from, screen where the test reads the one and writes the other. A
// read of screen fails with EIO once nobody has program open any more.
func Open(t testing.TB) (program, screen *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	must.Do(t, err)
	t.Cleanup(func() { screen.Close() })
	control := func(request uintptr, argument unsafe.Pointer) {
		t.Helper()
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, screen.Fd(), request, uintptr(argument)); errno != 0 {
			t.Fatal(errno)
		}
	}
	var unlock, number int32
	control(syscall.TIOCSPTLCK, unsafe.Pointer(&unlock))
	control(syscall.TIOCGPTN, unsafe.Pointer(&number))
	size := [4]uint16{24, 80}
	control(syscall.TIOCSWINSZ, unsafe.Pointer(&size))
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	must.Do(t, err)
	t.Cleanup(func() { program.Close() })
	return program, screen
}
