package systemd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// openPTY returns both ends of a new pseudo-terminal. The terminal's name is
// the slave's, without /dev.
func openPTY(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatalf("open a pseudo-terminal (is /dev/pts mounted?): %v", err)
	}
	t.Cleanup(func() { master.Close() })
	var number, unlock uint32
	ioctl(t, master, syscall.TIOCSPTLCK, unsafe.Pointer(&unlock))
	ioctl(t, master, syscall.TIOCGPTN, unsafe.Pointer(&number))
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close() })
	return master, slave
}

func ioctl(t *testing.T, file *os.File, request uintptr, argument unsafe.Pointer) {
	t.Helper()
	raw, err := file.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed syscall.Errno
	err = raw.Control(func(fd uintptr) {
		_, _, failed = syscall.Syscall(syscall.SYS_IOCTL, fd, request, uintptr(argument))
	})
	if err != nil || failed != 0 {
		t.Fatalf("ioctl %#x on %s: %v, %v", request, file.Name(), err, failed)
	}
}

func ttyName(slave *os.File) string { return strings.TrimPrefix(slave.Name(), "/dev/") }

// read waits until the terminal has shown what is wanted.
func read(t *testing.T, master *os.File, want string) string {
	t.Helper()
	if err := master.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var shown strings.Builder
	buffer := make([]byte, 4096)
	for !strings.Contains(shown.String(), want) {
		n, err := master.Read(buffer)
		shown.Write(buffer[:n])
		if err != nil {
			t.Fatalf("the terminal shows %q, want %q: %v", shown.String(), want, err)
		}
	}
	return shown.String()
}

func TestTellWritesToEachTerminalOnce(t *testing.T) {
	master1, slave1 := openPTY(t)
	master2, slave2 := openPTY(t)
	err := Tell(t.Context(), []Session{
		{User: "core", TTY: ttyName(slave1)},
		{User: "ann"}, // no terminal
		{User: "core", TTY: ttyName(slave1)},
		{User: "bob", TTY: ttyName(slave2)},
	}, "System reboot in 5 minutes!\nSave \x1b[2Jyour work.")
	if err != nil {
		t.Fatal(err)
	}
	for _, master := range []*os.File{master1, master2} {
		shown := read(t, master, "work.")
		if strings.Count(shown, "System reboot in 5 minutes!") != 1 || strings.Contains(shown, "\x1b") {
			t.Errorf("the terminal shows %q", shown)
		}
	}
}

func TestABlockedTerminalBlocksNothing(t *testing.T) {
	for _, test := range []struct {
		name  string
		block func(t *testing.T, master, slave *os.File)
	}{
		{"stopped with ^S", func(t *testing.T, _, slave *os.File) {
			const tcxonc, tcooff = 0x540a, 0 // see ioctl_tty(2)
			raw, err := slave.SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			if err := raw.Control(func(fd uintptr) {
				if _, _, e := syscall.Syscall(syscall.SYS_IOCTL, fd, tcxonc, tcooff); e != 0 {
					t.Errorf("stop the terminal: %v", e)
				}
			}); err != nil {
				t.Fatal(err)
			}
		}},
		{"nobody reads it", func(t *testing.T, _, slave *os.File) {
			fd, err := syscall.Open(slave.Name(), syscall.O_WRONLY|syscall.O_NOCTTY|syscall.O_NONBLOCK, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer syscall.Close(fd)
			for {
				if _, err := syscall.Write(fd, []byte("x")); errors.Is(err, syscall.EAGAIN) {
					return
				} else if err != nil {
					t.Fatal(err)
				}
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			blockedMaster, blocked := openPTY(t)
			test.block(t, blockedMaster, blocked)
			master, slave := openPTY(t)
			told := make(chan error, 1)
			go func() {
				told <- Tell(t.Context(), []Session{
					{User: "core", TTY: ttyName(blocked)},
					{User: "ann", TTY: ttyName(slave)},
				}, "System reboot in 5 minutes!")
			}()
			select {
			case err := <-told:
				if err == nil || !strings.Contains(err.Error(), ttyName(blocked)) || !strings.Contains(err.Error(), `"core"`) ||
					strings.Contains(err.Error(), `"ann"`) {
					t.Errorf("got %v, want an error that names the blocked terminal and no other", err)
				}
			case <-time.After(20 * time.Second):
				t.Fatal("a blocked terminal blocks the message")
			}
			read(t, master, "System reboot in 5 minutes!")
		})
	}
}

func TestTellRefusesWhatIsNoTerminal(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// Below /dev lie plain files too.
	shared, err := os.CreateTemp("/dev/shm", "tell")
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(shared.Name())
	defer shared.Close()
	_, slave := openPTY(t)
	link := shared.Name() + "-link"
	if err := os.Symlink(slave.Name(), link); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(link)
	for _, tty := range []string{
		strings.TrimPrefix(shared.Name(), "/dev/"), strings.TrimPrefix(link, "/dev/"), "fd/1", "shm",
		"../" + file, "../../etc/passwd", "pts/../../etc/passwd", "/dev/null", "./null", "pts/", "pts",
		"no-such-terminal", "fd", "..", ".", "\x00",
	} {
		if err := Tell(t.Context(), []Session{{User: "core", TTY: tty}}, "x"); err == nil {
			t.Errorf("%q was taken for a terminal", tty)
		}
	}
	if data, err := os.ReadFile(file); err != nil || len(data) > 0 {
		t.Errorf("the file holds %q, %v", data, err)
	}
}

func TestTellStopsWithItsContext(t *testing.T) {
	_, slave := openPTY(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Tell(ctx, []Session{{TTY: ttyName(slave)}}, "x"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
