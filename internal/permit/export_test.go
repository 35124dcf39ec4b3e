package permit

import (
	"io/fs"
	"syscall"

	"github.com/locksmithd/locksmith/internal/fleetclient"
)

// FillDisk makes the file one that cannot be written.
func (s *Slot) FillDisk() {
	s.file.replace = func(string, []byte, fs.FileMode, fs.FileMode) error { return syscall.ENOSPC }
}

// SetDial sets how the server is reached.
func (s *Slot) SetDial(dial fleetclient.Dial) { s.dial = dial }
