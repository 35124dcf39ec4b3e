package host

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/locksmithd/locksmith/internal/readfile"
)

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
