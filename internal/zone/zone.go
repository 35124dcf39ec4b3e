// Package zone follows time zones while a program runs: the host's own, which an
// administrator may change, and those of the database, whose rules an update may change.
// Go loads the host's zone once, when the program first asks for it.
//
// It guarantees that a Zone is what its file says at the moment of asking, and that a
// file which is missing or broken by then changes nothing: the rules before it stay.
package zone

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/locksmithd/locksmith/internal/readfile"
)

const (
	// hostPath is described in localtime(5).
	hostPath = "/etc/localtime"
	// database is where Go looks first.
	database = "/usr/share/zoneinfo"
	// maxSize bounds a zone file, in bytes. Real ones have a few thousand.
	maxSize = 1 << 20
)

// A Zone is a time zone as it is now. Any number of goroutines may use one at once.
type Zone struct {
	path string       // of the file that is followed, "" for none
	name string       // of the zone that the file has
	warn func(string) // nil for nobody

	mu   sync.Mutex
	loc  *time.Location
	seen version // of the file when it was last loaded
}

// version tells one content of a path from another; zero when there is none.
type version struct {
	dev, ino     uint64
	size         int64
	mtime, ctime syscall.Timespec
}

// Host returns the zone of a host: that of etc/localtime below root ("" for "/"), and UTC
// if there is none. With an error, which says why that cannot be used, it is UTC for the
// time being. warn is called when it becomes unusable later, unless it is nil.
func Host(root string, warn func(string)) (*Zone, error) {
	return file(filepath.Join("/", root, hostPath), warn)
}

// Env returns the zone that the variable TZ stands for where Go reads it: a name of the
// database, the path of a file, or UTC if it is empty. See Host for the rest.
func Env(tz, root string, warn func(string)) (*Zone, error) {
	switch tz = strings.TrimPrefix(tz, ":"); {
	case tz == "":
		return &Zone{loc: time.UTC}, nil
	case tz == hostPath:
		return Host(root, warn)
	case filepath.IsAbs(tz):
		return file(tz, warn)
	}
	return Named(tz, warn)
}

// Named returns a zone of the database, by its IANA name. See Host for the rest.
func Named(name string, warn func(string)) (*Zone, error) {
	loc, err := time.LoadLocation(name) // first, as it refuses what leads out of the database
	if name == "Local" {                // which is no zone, but what Go took for it at the start
		err = errors.New("unknown time zone Local")
	}
	if err != nil {
		return &Zone{loc: time.UTC}, err
	}
	if path := filepath.Join(database, name); exists(path) {
		return follow(path, name, warn)
	}
	return &Zone{loc: loc}, nil
}

func file(path string, warn func(string)) (*Zone, error) {
	if !exists(path) {
		return &Zone{path: path, name: "Local", warn: warn, loc: time.UTC}, nil
	}
	return follow(path, "Local", warn)
}

// follow returns the zone of a file, loaded for the first time.
func follow(path, name string, warn func(string)) (*Zone, error) {
	z := &Zone{path: path, name: name, warn: warn, loc: time.UTC}
	loc, seen, err := read(path, name)
	z.seen = seen
	if err == nil {
		z.loc = loc
	}
	return z, err
}

// Location returns the zone as it is now.
func (z *Zone) Location() *time.Location {
	loc, err := z.update()
	if err != nil && z.warn != nil {
		z.warn(fmt.Sprintf("%v: the time zone stays what it was", err)) // unlocked: it may ask for the time
	}
	return loc
}

// update loads the zone if its file is not what it was. An error, once for each change, says why
// that cannot be used.
func (z *Zone) update() (*time.Location, error) {
	if z.path == "" {
		return z.loc, nil
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	if now, err := os.Stat(z.path); versionOf(now, err) == z.seen {
		return z.loc, nil
	}
	loc, seen, err := read(z.path, z.name)
	z.seen = seen
	if err == nil {
		z.loc = loc
	}
	return z.loc, err
}

// exists reports whether there is a file, or may be one.
func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR)
}

// versionOf takes what os.Stat and os.File.Stat return.
func versionOf(info fs.FileInfo, err error) version {
	if err != nil {
		return version{}
	}
	s := info.Sys().(*syscall.Stat_t)
	return version{s.Dev, s.Ino, s.Size, s.Mtim, s.Ctim}
}

// read returns the zone of a file in the format of tzfile(5), and the version of the very file that was
// read: what is at its path may be replaced at any time. If it cannot be opened it is what is there.
func read(path, name string) (*time.Location, version, error) {
	f, err := readfile.Open(path, 0)
	if err != nil {
		return nil, versionOf(os.Stat(path)), err
	}
	defer f.Close()
	seen := versionOf(f.Stat())
	data, err := readfile.Content(f, maxSize)
	if err != nil {
		return nil, seen, err
	}
	loc, err := time.LoadLocationFromTZData(name, data)
	if err != nil {
		return nil, seen, fmt.Errorf("read %s: %w", path, err)
	}
	return loc, seen, nil
}
