package permit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/locksmithd/locksmith/fleetlock"
	"github.com/locksmithd/locksmith/internal/fleetclient"
	"github.com/locksmithd/locksmith/internal/readfile"
	"github.com/locksmithd/locksmith/internal/replacefile"
	"github.com/locksmithd/locksmith/internal/safetext"
)

// DefaultPath is the path of the file on a host in which it remembers its slots.
const DefaultPath = "/var/lib/locksmith/fleetlock.json"

// folderMode is the mode of its folder, if that is missing.
const folderMode = 0o700

// maxSize bounds the file, in bytes; no content of ours is as long.
const maxSize = 64 << 10

// State is what this host knows of a slot.
type State string

// The states.
const (
	Unknown State = ""        // nothing: it is not recorded
	None    State = "none"    // it gave back what it had
	Asked   State = "asked"   // it has asked for one, or is about to, and maybe got it
	Granted State = "granted" // it has one
)

// Memory is what this host remembers of a slot: that of an id, in a group, of a server.
type Memory struct {
	fleetclient.Config // of the server, whose URL ends with a slash

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

// String names the slot, for people.
func (m Memory) String() string {
	return fmt.Sprintf("the slot of %s at the FleetLock server %s, group %s",
		safetext.Clean(m.ID), safetext.Clean(m.URL), safetext.Clean(m.Group))
}

// params returns the parameters of requests about the slot.
func (m Memory) params() fleetlock.Params { return fleetlock.Params{ID: m.ID, Group: m.Group} }

// same reports whether both are about one slot.
func (m Memory) same(other Memory) bool {
	return m.URL == other.URL && m.Group == other.Group && m.ID == other.ID
}

// mayHold reports whether this host has the slot, or may have it.
func (m Memory) mayHold() bool { return m.Slot == Asked || m.Slot == Granted }

// equal reports whether both say the same.
func (m Memory) equal(other Memory) bool {
	same := m.Since.Equal(other.Since)
	other.Since = m.Since
	return same && m == other
}

// clean bounds the versions, which others have chosen, and makes them safe to show.
func (m *Memory) clean() {
	m.Version, m.OSVersion = safetext.Clean(m.Version), safetext.Clean(m.OSVersion)
}

// file is the file of a host. It has a Memory for each slot that was not given back, and for the last one.
type file struct {
	path    string
	replace func(path string, content []byte, mode, folderMode fs.FileMode) error // replacefile.Write, except in tests
	log     *slog.Logger
}

func newFile(root string, log *slog.Logger) file {
	return file{filepath.Join(root, DefaultPath), replacefile.Write, log}
}

type document struct {
	Slots []Memory `json:"slots"`
}

// read returns the content. A missing file has none.
func (f file) read() ([]Memory, error) {
	data, err := readfile.Read(f.path, maxSize)
	if readfile.Absent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var d document
	err = json.Unmarshal(data, &d)
	unclear := func(m Memory) bool { return m.Slot != None && !m.mayHold() }
	if err == nil && (d.Slots == nil || slices.ContainsFunc(d.Slots, unclear)) {
		err = errors.New("it does not say which slots it is about")
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: it is not what locksmith wrote: %w", f.path, err)
	}
	for n := range d.Slots {
		d.Slots[n].clean()
	}
	return d.Slots, nil
}

// readOrSetAside returns the content. A file that cannot be read is set aside. The caller has the lock of the file.
func (f file) readOrSetAside() ([]Memory, error) {
	all, err := f.read()
	if err != nil {
		err = f.setAside(err)
	}
	return all, err
}

// lock has other writers wait until unlock is called. It waits for them, and not beyond the end of ctx.
func (f file) lock(ctx context.Context) (unlock func(), err error) {
	return replacefile.Lock(ctx, f.path, folderMode)
}

// settle sets the file aside if it cannot be read.
func (f file) settle(ctx context.Context) error {
	unlock, err := f.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	_, err = f.readOrSetAside()
	return err
}

// remember writes what is to be remembered of a slot. What cannot be read is set aside. Other slots that this host may
// have stay.
func (f file) remember(ctx context.Context, m Memory) error {
	m.clean()
	unlock, err := f.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	all, err := f.readOrSetAside()
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(other Memory) bool { return other.same(m) || !other.mayHold() })
	return f.write(append(all, m))
}

// forget drops m, which was given back, unless another process has written something else of that slot since.
func (f file) forget(ctx context.Context, m Memory) error {
	unlock, err := f.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	all, err := f.read()
	if err != nil || all == nil {
		return err
	}
	return f.write(slices.DeleteFunc(all, m.equal))
}

func (f file) write(all []Memory) error {
	data, err := json.Marshal(document{all})
	if err != nil {
		return fmt.Errorf("write %s: %w", f.path, err)
	}
	return f.replace(f.path, append(data, '\n'), 0o600, folderMode)
}

// remove removes the file, unless it also names another slot than own that may be held: nothing else names that one. A
// file that cannot be read stays: Inspect sets it aside.
func (f file) remove(ctx context.Context, own Memory) error {
	if _, err := os.Lstat(f.path); readfile.Absent(err) {
		return nil
	}
	unlock, err := f.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	all, err := f.read()
	if err != nil || all == nil {
		return nil
	}
	for _, m := range all {
		if m.mayHold() && !m.same(own) {
			return fmt.Errorf("%s stays, because it also says that %v may be held", f.path, m)
		}
	}
	return os.Remove(f.path)
}

// setAside keeps a file that cannot be understood under another name.
func (f file) setAside(wrong error) error {
	const means = "if this host has had a slot of another server or group, that may still be held there"
	aside := f.path + ".broken"
	if err := os.Rename(f.path, aside); err != nil {
		return fmt.Errorf("%w; and it cannot be moved away: %w; %s", wrong, err, means)
	}
	f.log.Warn("what this host knows of its slot cannot be read, and is kept under another name; "+means,
		"error", wrong, "now", aside)
	return nil
}
