// Package host is this host: who it is, in which boot, who is at work on it, and how it can reboot.
//
// Its identity is read at each call from files below a root ("" for "/"), so that a host can be simulated. The
// kernel's files may be missing there; then the machine's own count. Hardware and tokens on the disk tell hosts with
// the same machine id apart. An unprivileged user can read neither, so that it is not an error if they are unknown.
package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/locksmithd/locksmith/internal/readfile"
	"github.com/locksmithd/locksmith/internal/safetext"
	"github.com/locksmithd/locksmith/lock"
)

// Self returns who this host is in a boot, and the tokens that earlier boots have left on its disk. The record has no
// token of its own: see NewToken.
func Self(root string, boot Boot) (self lock.Record, disk []string, err error) {
	self.BootID = boot.ID
	if self.Hostname, err = Name(root); err != nil {
		return lock.Record{}, nil, err
	}
	self.Hardware = hardware(root)
	return self, tokensOfEarlierBoots(root, self.BootID), nil
}

// Name returns the name that this host has now: it may get its name only some time after it has come up.
func Name(root string) (string, error) {
	name, err := readKernelFile(root, "/proc/sys/kernel/hostname")
	if err != nil {
		return "", fmt.Errorf("find the name of this host: %w", err)
	}
	return name, nil
}

// maxMachineID bounds the id, in bytes. The ids of systemd have 32.
const maxMachineID = 256

// MachineID returns the id under which this host holds slots, see machine-id(5), without white space around it. It
// need not look like one of systemd's, but has to be one printable word. Every error names the file.
func MachineID(root string) (string, error) {
	path := filepath.Join(root, "/etc/machine-id")
	data, err := readfile.Read(path, 4096)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%w: systemd-machine-id-setup writes it", err)
	}
	if err != nil {
		return "", err
	}
	id := strings.TrimSpace(string(data))
	if err := checkMachineID(id); err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	return id, nil
}

func checkMachineID(id string) error {
	switch {
	case id == "":
		return errors.New("it is empty, and would give every such host the same lock: systemd-machine-id-setup writes an id into it")
	case id == "uninitialized":
		return errors.New("it holds no id yet: systemd writes one into it during the first boot")
	case len(id) > maxMachineID:
		return fmt.Errorf("the id in it is longer than %d bytes: systemd-machine-id-setup writes a valid one into it", maxMachineID)
	case !utf8.ValidString(id) || strings.ContainsFunc(id, func(c rune) bool { return unicode.IsSpace(c) || !unicode.IsPrint(c) }):
		return fmt.Errorf("%q is not an id, which is one word that can be printed: systemd-machine-id-setup writes a valid one into it", id)
	case strings.Contains(id, "/"), id == ".", id == "..":
		return fmt.Errorf("%q is not an id, but a path: systemd-machine-id-setup writes a valid one into it", id)
	}
	return nil
}

// readKernelFile reads one of the kernel's files below root, or the machine's own where there is none.
func readKernelFile(root, file string) (string, error) {
	data, err := os.ReadFile(filepath.Join(root, file))
	if errors.Is(err, fs.ErrNotExist) {
		data, err = os.ReadFile(file)
	}
	return strings.TrimSpace(string(data)), err
}

// OSVersion returns the version of the operating system, as os-release(5) says it; "" where it does not.
func OSVersion(root string) string { return osRelease(root, "VERSION_ID") }

// OSName returns the name of the operating system, as os-release(5) says it; "" where it does not.
func OSName(root string) string { return osRelease(root, "NAME") }

// osRelease returns a field of os-release(5).
func osRelease(root, field string) string {
	for _, file := range []string{"/etc/os-release", "/usr/lib/os-release"} {
		data, err := readfile.Read(filepath.Join(root, file), maxOSRelease)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		return fieldOf(string(data), field)
	}
	return ""
}

// maxOSRelease is more than any os-release has, in bytes.
const maxOSRelease = 64 << 10

// fieldOf returns what an os-release file sets a field to last, unquoted as a shell does.
func fieldOf(file, field string) (text string) {
	for line := range strings.Lines(file) {
		value, found := strings.CutPrefix(strings.TrimSpace(line), field+"=")
		if !found {
			continue
		}
		if n := len(value); n >= 2 && (value[0] == '"' || value[0] == '\'') && value[n-1] == value[0] {
			quote := value[0]
			if value = value[1 : n-1]; quote == '"' {
				value = unescape.Replace(value)
			}
		}
		text = safetext.Clean(value)
	}
	return text
}

var unescape = strings.NewReplacer(`\\`, `\`, `\"`, `"`, `\$`, `$`, "\\`", "`")
