// Package state owns /run/locksmith/state.json, the daemon's memory over a restart within one boot. Over a soft reboot
// it remembers only what logind does as well: the reboot that is scheduled.
//
// It guarantees that a reader sees the old content or the new, never a part, whenever a process is killed,
// and that a file of another boot, or a malformed one, is never taken for a state. It does not guard against
// two writers: only the holder of the coordinator file writes, and the program that runs after it has ended.
package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/locksmithd/locksmith/internal/host"
	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/internal/readfile"
	"github.com/locksmithd/locksmith/internal/safetext"
)

// DefaultPath is the path of the file on a host.
const DefaultPath = "/run/locksmith/state.json"

// maxSize bounds the file, in bytes; no state is as long.
const maxSize = 64 << 10

// Kept is what the daemon remembers over a restart. The zero Kept is nothing.
type Kept struct {
	policy.Kept
	// Owner is the token that marks a place in the queue as the daemon's.
	Owner string `json:"owner,omitempty"`
}

// document is the content of the file.
type document struct {
	Boot string `json:"boot_id"`
	Kept
}

// ErrNone means that nothing was kept since the kernel was started, or that it has been removed.
var ErrNone = errors.New("there is no state of this boot")

// File is the file of one boot. It is not safe for concurrent use.
type File struct {
	path string
	boot host.Boot
}

// New returns the file below root for a boot.
func New(root string, boot host.Boot) *File {
	return &File{path: filepath.Join(root, DefaultPath), boot: boot}
}

// Read returns what was kept, in this boot or before the soft reboots with which it began. An error other than ErrNone
// says what is wrong with the file.
func (f *File) Read() (Kept, error) {
	file, err := readfile.Open(f.path, syscall.O_NOFOLLOW)
	if errors.Is(err, fs.ErrNotExist) {
		return Kept{}, ErrNone
	}
	if err != nil {
		return Kept{}, err
	}
	defer file.Close()
	data, err := readfile.Content(file, maxSize)
	if err != nil {
		return Kept{}, err
	}
	var d document
	switch err = json.Unmarshal(data, &d); {
	case err != nil:
		return Kept{}, fmt.Errorf("read %s: %w", f.path, err)
	case d.Boot == "":
		return Kept{}, fmt.Errorf("read %s: it has no boot id", f.path)
	case !f.boot.SameKernel(d.Boot):
		return Kept{}, ErrNone
	case d.Boot != f.boot.ID:
		return Kept{Kept: policy.Kept{Scheduled: d.Scheduled.Outlived()}}, nil
	}
	d.Request.Version, d.Postponed.Version = safetext.Clean(d.Request.Version), safetext.Clean(d.Postponed.Version)
	d.Postponed.For = max(0, d.Postponed.For)
	return d.Kept, nil
}

// Write replaces what is kept. After an error the old content is still there.
func (f *File) Write(k Kept) error {
	data, err := json.Marshal(document{Boot: f.boot.ID, Kept: k})
	if err == nil {
		err = f.replace(append(data, '\n'))
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", f.path, err)
	}
	return nil
}

func (f *File) replace(data []byte) error {
	dir := filepath.Dir(f.path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	// The name is fixed: there is one writer, and what a killed one left is removed, not written to.
	temporary := filepath.Join(dir, "."+filepath.Base(f.path)+".new")
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err := os.WriteFile(temporary, data, 0o600)
	if err == nil {
		err = os.Rename(temporary, f.path)
	}
	if err != nil {
		_ = os.Remove(temporary) // or the next write does
	}
	return err
}
