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
	path string // of the file that is followed, "" for none
	load func() (*time.Location, error)
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
	z := &Zone{warn: warn, load: func() (*time.Location, error) {
		if name == "Local" { // which is no zone, but what Go took for it at the start
			return nil, errors.New("unknown time zone Local")
		}
		return time.LoadLocation(name)
	}}
	if path := filepath.Join(database, name); exists(path) {
		z.path = path
	}
	return z, z.start()
}

func file(path string, warn func(string)) (*Zone, error) {
	z := &Zone{path: path, warn: warn, load: func() (*time.Location, error) { return read(path) }}
	if !exists(path) {
		z.loc = time.UTC
		return z, nil
	}
	return z, z.start()
}

// start loads the zone for the first time.
func (z *Zone) start() (err error) {
	z.seen, _ = stat(z.path) // if that fails, so does loading
	if z.loc, err = z.load(); err != nil {
		z.loc = time.UTC
	}
	return err
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
	now, err := stat(z.path)
	if now == z.seen {
		return z.loc, nil
	}
	z.seen = now // looked at before it is read: if it changes in between, it is read once more
	var loc *time.Location
	if err == nil {
		loc, err = z.load()
	}
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

func stat(path string) (version, error) {
	info, err := os.Stat(path)
	if err != nil {
		return version{}, err
	}
	s := info.Sys().(*syscall.Stat_t)
	return version{s.Dev, s.Ino, s.Size, s.Mtim, s.Ctim}, nil
}

// read returns the zone of a file in the format of tzfile(5).
func read(path string) (*time.Location, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular() || info.Size() > maxSize:
		return nil, fmt.Errorf("read %s: it is not a time zone file", path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	loc, err := time.LoadLocationFromTZData("Local", data)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return loc, nil
}
