package host

import (
	"io"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/locksmithd/locksmith/internal/readfile"
)

// dpkgLock is locked from begin to end by whatever installs or removes packages on Debian and its derivatives:
// apt, unattended-upgrades, and dpkg itself, which asks for no inhibitor.
const dpkgLock = "/var/lib/dpkg/lock-frontend"

// Installing returns the file that an installation of packages below root has locked, "" for none. What cannot be
// asked, such as a file that is not there or that this process may not read, is none.
func Installing(root string) string {
	file, err := readfile.Open(filepath.Join(root, dpkgLock), 0)
	if err != nil {
		return ""
	}
	defer file.Close()
	lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
	if err := unix.FcntlFlock(file.Fd(), unix.F_GETLK, &lock); err != nil || lock.Type == unix.F_UNLCK {
		return ""
	}
	return dpkgLock
}
