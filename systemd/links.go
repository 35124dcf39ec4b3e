package systemd

import (
	"os"
	"path/filepath"
	"slices"
)

// linkFolders are the ends of the names of folders whose links pull in units, see systemd.unit(5).
var linkFolders = [...]string{".wants", ".requires"}

// Linked returns the names of the units that a unit pulls in by links below root, as `systemctl enable` makes them, for
// a caller that cannot ask systemd. What the files of the units say besides is not known, nor what cannot be read.
func Linked(root, unit string) (units []string) {
	for _, dir := range unitDirs {
		for _, end := range linkFolders {
			entries, _ := os.ReadDir(filepath.Join(root, dir, unit+end))
			for _, entry := range entries {
				if name := entry.Name(); !slices.Contains(units, name) && !masked(root, name) {
					units = append(units, name)
				}
			}
		}
	}
	return units
}

// EnabledBy returns a link below root that pulls in a unit, "" if there is none or the unit is masked. See Linked.
func EnabledBy(root, unit string) (link string) {
	if masked(root, unit) {
		return ""
	}
	for _, dir := range unitDirs {
		for _, end := range linkFolders {
			links, _ := filepath.Glob(filepath.Join(root, dir, "*"+end, unit)) // a name of a unit has nothing special in a pattern
			if len(links) > 0 {
				return links[0]
			}
		}
	}
	return ""
}

// masked reports whether the file of a unit that counts is a link to /dev/null, see systemctl(1).
func masked(root, unit string) bool {
	for _, dir := range unitDirs {
		path := filepath.Join(root, dir, unit)
		if _, err := os.Lstat(path); err == nil {
			target, err := os.Readlink(path)
			return err == nil && target == os.DevNull
		}
	}
	return false
}
