// Package host is this host: who it is, and who is at work on it.
//
// Its identity is read at each call from files below a root ("" for "/"), so that a host can be simulated. The
// kernel's files may be missing there; then the machine's own count. Hardware and tokens on the disk tell hosts
// with the same machine id apart. An unprivileged user can read neither, so that it is not an error if they are
// unknown.
package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/locksmithd/locksmith/lock"
)

// Self returns who this host is, and the tokens that earlier boots have left on its disk. The record has no
// token of its own: see NewToken.
func Self(root string) (self lock.Record, disk []string, err error) {
	if self.BootID, err = BootID(root); err != nil {
		return lock.Record{}, nil, err
	}
	// A host may get its name only some time after it has come up.
	if self.Hostname, err = readKernelFile(root, "/proc/sys/kernel/hostname"); err != nil {
		return lock.Record{}, nil, fmt.Errorf("find the name of this host: %w", err)
	}
	self.Hardware = hardware(root)
	return self, tokensOfEarlierBoots(root, self.BootID), nil
}

// BootID returns the id that the kernel gave this boot, see random(4).
func BootID(root string) (string, error) {
	const file = "/proc/sys/kernel/random/boot_id"
	id, err := readKernelFile(root, file)
	if err == nil && id == "" {
		err = fmt.Errorf("%s is empty", filepath.Join(root, file))
	}
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	return id, nil
}

// readKernelFile reads one of the kernel's files below root, or the machine's own where there is none.
func readKernelFile(root, file string) (string, error) {
	data, err := os.ReadFile(filepath.Join(root, file))
	if errors.Is(err, fs.ErrNotExist) {
		data, err = os.ReadFile(file)
	}
	return strings.TrimSpace(string(data)), err
}
