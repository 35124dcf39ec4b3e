package permit

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/locksmithd/locksmith/internal/readfile"
	"github.com/locksmithd/locksmith/internal/replacefile"
	"github.com/locksmithd/locksmith/internal/safetext"
)

// DefaultPath is the path of the file on a host in which it remembers its slot.
const DefaultPath = "/var/lib/locksmith/fleetlock.json"

// maxSize bounds the file, in bytes; no content of ours is as long.
const maxSize = 64 << 10

// State is what this host knows of its slot.
type State string

// The states.
const (
	Unknown State = ""        // nothing: there is no file
	None    State = "none"    // it gave back what it had
	Asked   State = "asked"   // it has asked for one, and maybe got it
	Granted State = "granted" // it has one
)

// Memory is what this host remembers of its slot.
type Memory struct {
	Server string `json:"server"` // the base URL
	Group  string `json:"group"`
	ID     string `json:"id"`
	BootID string `json:"boot_id"` // the boot in which the rest was written
	Slot   State  `json:"slot"`
	// Since is when the slot was asked for, granted or given back.
	Since time.Time `json:"since"`
	// Version is what the host reboots for, "" if that is not known.
	Version string `json:"version,omitempty"`
	// OSVersion is what ran before, if Version is one of the operating system.
	OSVersion string `json:"os_version,omitempty"`
}

// file is the file of a host.
type file struct {
	path    string
	replace func(path string, content []byte, mode, folderMode fs.FileMode) error // replacefile.Write, except in tests
}

func newFile(root string) file { return file{filepath.Join(root, DefaultPath), replacefile.Write} }

// read returns the content. A missing file is the zero Memory.
func (f file) read() (Memory, error) {
	data, err := readfile.Read(f.path, maxSize)
	if readfile.Absent(err) {
		return Memory{}, nil
	}
	var m Memory
	if err == nil {
		err = json.Unmarshal(data, &m)
		if err == nil && m.Slot != None && m.Slot != Asked && m.Slot != Granted {
			err = errors.New("it does not say which slot it is about")
		}
		if err != nil {
			err = fmt.Errorf("read %s: it is not what locksmith wrote: %w", f.path, err)
		}
	}
	if err != nil {
		return Memory{}, err
	}
	for _, text := range []*string{&m.Server, &m.Group, &m.ID, &m.BootID, &m.Version, &m.OSVersion} {
		*text = safetext.Clean(*text)
	}
	return m, nil
}

// write replaces the content.
func (f file) write(m Memory) error {
	m.Version, m.OSVersion = safetext.Clean(m.Version), safetext.Clean(m.OSVersion)
	data, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("write %s: %w", f.path, err)
	}
	return f.replace(f.path, append(data, '\n'), 0o600, 0o700)
}

// remove removes the file, if there is one.
func (f file) remove() error {
	if err := os.Remove(f.path); err != nil && !readfile.Absent(err) {
		return err
	}
	return nil
}

// setAside renames a file that cannot be read, and returns its new name.
func (f file) setAside() (string, error) {
	aside := f.path + ".broken"
	return aside, os.Rename(f.path, aside)
}
