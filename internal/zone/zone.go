// Package zone follows time zones while a program runs. An administrator may change the host's zone, and an
// update may change the rules of zones in the database; Go itself loads the host's zone once.
//
// It guarantees that a Zone is what its file says at the time of the call, and that a file that has become
// missing or broken changes nothing: the rules from before stay.
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
	// database is the folder that Go searches first.
	database = "/usr/share/zoneinfo"
	// maxSize bounds a zone file, in bytes. Real ones have a few thousand.
	maxSize = 1 << 20
)

// A Zone is a time zone as it is now. It is safe for concurrent use.
type Zone struct {
	path string       // of the file that is followed, "" for none
	name string       // of the zone in the file
	warn func(string) // may be nil

	mu   sync.Mutex
	loc  *time.Location
	seen version // of the file when it was last loaded
}

// version identifies the content of a path; zero if there is no file.
type version struct {
	dev, ino     uint64
	size         int64
	mtime, ctime syscall.Timespec
}

// Host returns the zone of a host: that of etc/localtime below root ("" for "/"), or UTC if there is no such
// file. If the file cannot be used, the zone is UTC until it can, and the error says why. If the file becomes
// unusable later, warn is called, unless it is nil.
func Host(root string, warn func(string)) (*Zone, error) {
	return follow(filepath.Join(root, hostPath), "Local", warn)
}

// Env returns the zone that Go takes for the variable TZ: a name in the database, the path of a file, or UTC
// if it is empty. See Host for the rest.
func Env(tz, root string, warn func(string)) (*Zone, error) {
	switch tz = strings.TrimPrefix(tz, ":"); {
	case tz == "":
		return &Zone{loc: time.UTC}, nil
	case tz == hostPath:
		return Host(root, warn)
	case filepath.IsAbs(tz):
		return follow(tz, "Local", warn)
	}
	return Named(tz, warn)
}

// Named returns the zone with an IANA name from the database. See Host for the rest.
func Named(name string, warn func(string)) (*Zone, error) {
	loc, err := time.LoadLocation(name) // first, because it refuses a path that leads out of the database
	if name == "Local" {                // not a zone: it stands for the one that Go loaded at the start
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

// follow returns the zone of a file, UTC if there is none.
func follow(path, name string, warn func(string)) (*Zone, error) {
	z := &Zone{path: path, name: name, warn: warn, loc: time.UTC}
	if !exists(path) {
		return z, nil
	}
	return z, z.load()
}

// Name returns the IANA name of the zone, such as Europe/Berlin; "" where it is not known. That of the host's zone is
// known where its file is a link into the database, as localtime(5) wants it.
func (z *Zone) Name() string {
	switch {
	case z.path == "" && z.loc == time.UTC:
		return "UTC"
	case z.path == "":
		return z.loc.String()
	case z.name != "Local":
		return z.name
	case !exists(z.path):
		return "UTC"
	}
	target, err := os.Readlink(z.path)
	if err != nil {
		return ""
	}
	_, name, _ := strings.Cut(target, "/zoneinfo/")
	return name
}

// Location returns the zone as it is now.
func (z *Zone) Location() *time.Location {
	loc, err := z.update()
	if err != nil && z.warn != nil {
		z.warn(fmt.Sprintf("%v: the time zone stays what it was", err)) // unlocked, because warn may call Location
	}
	return loc
}

// update loads the zone if its file has changed. An error, once for each change, says why the file cannot be used.
func (z *Zone) update() (*time.Location, error) {
	if z.path == "" {
		return z.loc, nil
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	if versionOf(os.Stat(z.path)) == z.seen {
		return z.loc, nil
	}
	err := z.load()
	return z.loc, err
}

// load reads the file, which is in the format of tzfile(5). After an error the zone stays what it was.
func (z *Zone) load() error {
	f, err := readfile.Open(z.path, 0)
	if err != nil {
		z.seen = versionOf(os.Stat(z.path))
		return err
	}
	defer f.Close()
	z.seen = versionOf(f.Stat()) // of the file that is read: the one at the path may be replaced at any time
	data, err := readfile.Content(f, maxSize)
	if err != nil {
		return err
	}
	loc, err := time.LoadLocationFromTZData(z.name, data)
	if err != nil {
		return fmt.Errorf("read %s: %w", z.path, err)
	}
	z.loc = loc
	return nil
}

// exists reports whether there is a file, or may be one.
func exists(path string) bool {
	_, err := os.Stat(path)
	return !readfile.Absent(err)
}

// versionOf returns the version that a result of os.Stat or os.File.Stat stands for.
func versionOf(info fs.FileInfo, err error) version {
	if err != nil {
		return version{}
	}
	s := info.Sys().(*syscall.Stat_t)
	return version{s.Dev, s.Ino, s.Size, s.Mtim, s.Ctim}
}
