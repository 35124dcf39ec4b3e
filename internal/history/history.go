// Package history owns /var/lib/locksmith/history.json, which says what the host's reboots came to: how many in
// succession did not bring up a version, and how the last one ended.
//
// It guarantees that after a crash or a power failure the file has the old content or the new, never a part; that two
// processes that change it at the same time lose nothing; and that a file that cannot be read or understood is never
// overwritten, except by Reset, which keeps it under another name.
package history

import (
	"context"
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

// DefaultPath is the path of the file on a host. Its folder is named by ReadWritePaths= of the unit.
const DefaultPath = "/var/lib/locksmith/history.json"

// folderMode is the mode of its folder, if that is missing.
const folderMode = 0o700

// maxSize bounds the file, in bytes; no content of ours is as long.
const maxSize = 64 << 10

// Kept is the content of the file. The zero one is that of a host which has not rebooted.
type Kept struct {
	// Version is what the host rebooted for last, as far as that was known. A reboot for what is not known does not
	// replace a version that did not come up.
	Version string `json:"version"`
	// Failed is how many reboots in succession did not bring it up.
	Failed int `json:"failed"`
	// Reboots is how many reboots that this program has asked for have taken place, since it counts them.
	Reboots int `json:"reboots,omitempty"`
	// Last is the last reboot; nil if there was none.
	Last *Reboot `json:"last,omitempty"`
}

// A Reboot is one that this program has asked for.
type Reboot struct {
	BootID    string    `json:"boot_id"`              // that it ended
	Version   string    `json:"version"`              // that it was for
	OSVersion string    `json:"os_version,omitempty"` // that ran before it
	How       string    `json:"how,omitempty"`        // and why, where the settings want another mode than a full reboot
	Taken     time.Time `json:"taken,omitzero"`       // when the slot for it was taken; zero without one, or when that is not known
	At        time.Time `json:"at"`
	Ended     time.Time `json:"ended,omitzero"`   // when the host was found well, or first found unwell
	Verified  bool      `json:"verified"`         // the host came up, and was well
	Result    string    `json:"result,omitempty"` // why it is not Verified; "" while that is open
}

// clean makes the texts safe to show.
func (r *Reboot) clean() {
	for _, text := range []*string{&r.Version, &r.OSVersion, &r.How, &r.Result} {
		*text = safetext.Clean(*text)
	}
}

// lastCounts reports whether the last reboot was for the version whose failures are counted.
func (k *Kept) lastCounts() bool { return k.Last != nil && k.Last.Version == k.Version }

// open reports whether it is not known what the reboot came to, although it took place if the host is in this boot.
func (r *Reboot) open(boot string) bool {
	return r != nil && r.BootID != boot && !r.Verified && r.Result == ""
}

// File is the file of a host. It is safe for concurrent use. What changes it waits for others that do, see
// replacefile.Lock, and not beyond the end of its context.
type File struct {
	path string
	now  func() time.Time
}

// New returns the file below root.
func New(root string) *File { return &File{filepath.Join(root, DefaultPath), time.Now} }

// Read returns the content. A missing file is the zero Kept.
func (f *File) Read() (Kept, error) {
	k, err := f.read()
	if err != nil {
		err = fmt.Errorf(`%w; "locksmithctl unhold" begins a new one`, err)
	}
	return k, err
}

// read is Read, with an error that says only what is wrong.
func (f *File) read() (Kept, error) {
	data, err := readfile.Read(f.path, maxSize)
	if readfile.Absent(err) {
		return Kept{}, nil
	}
	var k Kept
	if err == nil {
		if err = json.Unmarshal(data, &k); err != nil {
			err = fmt.Errorf("read %s: it is not what locksmith wrote: %w", f.path, err)
		}
	}
	if err != nil {
		return Kept{}, err
	}
	k.Version, k.Failed, k.Reboots = safetext.Clean(k.Version), max(0, k.Failed), max(0, k.Reboots)
	if k.Last != nil {
		k.Last.clean()
	}
	return k, nil
}

// Pending returns the reboot that led to the boot with that id and whose end is open, nil for none: the host came up,
// and was not found well yet. A reboot of an unwell host by hand leaves it pending.
func (f *File) Pending(boot string) (*Reboot, error) {
	k, err := f.Read()
	if err != nil || k.Last == nil || k.Last.BootID == boot || k.Last.Verified {
		return nil, err
	}
	return k.Last, nil
}

// Failed returns how many reboots in succession did not bring up a version, and why the last of them did not.
func (f *File) Failed(version string) (n int, why string, err error) {
	k, err := f.Read()
	if err != nil || k.Version != safetext.Clean(version) {
		return 0, "", err
	}
	if k.lastCounts() {
		why = k.Last.Result
	}
	return k.Failed, why, nil
}

// Begin records that the host is about to reboot; it sets the time itself. If the host comes up and then reboots for
// the same version again before Ended is called, that version did not come up.
func (f *File) Begin(ctx context.Context, r Reboot) error {
	r.clean()
	r.At = f.stamp()
	return f.change(ctx, func(k *Kept) bool {
		if k.Last.open(r.BootID) {
			k.Reboots++
		}
		switch {
		case k.Version == r.Version:
			if k.lastCounts() && k.Last.open(r.BootID) {
				k.Failed++
			}
		case r.Version != "" || k.Failed == 0:
			k.Version, k.Failed = r.Version, 0
		}
		k.Last = &r
		return true
	})
}

// stamp is the present time, as the file has it.
func (f *File) stamp() time.Time { return f.now().UTC().Truncate(time.Second) }

// Ended records, in the boot with that id, what the last reboot came to: "" if the host is well, or else why it is not.
// A reboot counts once, however often its checks fail, and not at all once the host has become well.
func (f *File) Ended(ctx context.Context, boot, result string) error {
	result = safetext.Clean(result)
	return f.change(ctx, func(k *Kept) bool {
		l := k.Last
		if l.open(boot) {
			k.Reboots++
		}
		switch {
		case l == nil, l.BootID == boot, l.Verified, l.Result == result && result != "":
			return false
		case result == "":
			l.Verified, l.Result, l.Ended = true, "", f.stamp()
			if k.lastCounts() {
				k.Failed = 0
			}
			return true
		case l.Result == "" && k.lastCounts():
			k.Failed++
		}
		if l.Result == "" {
			l.Ended = f.stamp()
		}
		l.Result = result
		return true
	})
}

// Reset drops the count of failures, and returns what was known of them. A file that cannot be read or understood is
// renamed: moved is its new name, and wrong what is wrong with it.
func (f *File) Reset(ctx context.Context) (was Kept, moved string, err error) {
	if _, err := os.Lstat(f.path); errors.Is(err, fs.ErrNotExist) {
		return Kept{}, "", nil
	}
	unlock, err := replacefile.Lock(ctx, f.path, folderMode)
	if err != nil {
		return Kept{}, "", err
	}
	defer unlock()
	was, wrong := f.read()
	if wrong != nil {
		moved = f.path + ".broken"
		if err := os.Rename(f.path, moved); err != nil {
			return Kept{}, "", fmt.Errorf("%w; and it cannot be moved away: %w", wrong, err)
		}
		return Kept{}, moved, nil
	}
	if was.Failed == 0 {
		return was, "", nil
	}
	next := was
	next.Failed = 0
	return was, "", f.write(next)
}

// change replaces the content, if decide says that it has changed it. After an error the old one is in place.
func (f *File) change(ctx context.Context, decide func(*Kept) bool) error {
	unlock, err := replacefile.Lock(ctx, f.path, folderMode)
	if err != nil {
		return err
	}
	defer unlock()
	k, err := f.Read()
	if err != nil {
		return err // what cannot be read is not overwritten
	}
	if !decide(&k) {
		return nil
	}
	return f.write(k)
}

func (f *File) write(k Kept) error {
	data, err := json.Marshal(k)
	if err != nil {
		return fmt.Errorf("write %s: %w", f.path, err)
	}
	return replacefile.Write(f.path, append(data, '\n'), 0o600, folderMode)
}
