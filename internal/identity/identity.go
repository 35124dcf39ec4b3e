// Package identity says who this host is: by what its lock's record and the next boot of it can be told from
// another host that has the same machine id.
//
// Everything is read when it is asked for, and below root ("" for "/") where there is such a file, so that
// a host can be simulated. What cannot be read is not known, which is no error: an unprivileged user sees
// neither the hardware's id nor the tokens.
package identity

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/systemd"
)

// Self returns who this host is, and the tokens that earlier boots left on its disk. The record has no
// token of its own yet: see NewToken.
func Self(root string) (self lock.Record, disk []string, err error) {
	if self.Hostname, err = hostname(root); err != nil {
		return lock.Record{}, nil, err
	}
	if self.BootID, err = systemd.BootID(root); err != nil {
		return lock.Record{}, nil, err
	}
	self.Hardware = hardware(root)
	return self, tokensOfEarlierBoots(root, self.BootID), nil
}

// hostname returns the name that the kernel has: it may have had another one a moment after it came up.
func hostname(root string) (string, error) {
	data, err := os.ReadFile(filepath.Join(root, "/proc/sys/kernel/hostname"))
	if err == nil {
		return strings.TrimSpace(string(data)), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("find the name of this host: %w", err)
	}
	name, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("find the name of this host: %w", err)
	}
	return name, nil
}
