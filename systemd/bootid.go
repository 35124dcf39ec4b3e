package systemd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const bootIDFile = "/proc/sys/kernel/random/boot_id"

// BootID returns the id that the kernel gave this boot, see random(4). With a
// root other than "" or "/" the file below root is read when there is one, so
// that a host can be simulated; otherwise the machine's own.
func BootID(root string) (string, error) {
	file := filepath.Join(root, bootIDFile)
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		file = bootIDFile
		data, err = os.ReadFile(file)
	}
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	id := strings.TrimSpace(string(data))
	if id == "" {
		return "", fmt.Errorf("read boot id: %s is empty", file)
	}
	return id, nil
}
