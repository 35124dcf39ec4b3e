package config

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/locksmithd/locksmith/fleetlock"
	"github.com/locksmithd/locksmith/internal/readfile"
	"github.com/locksmithd/locksmith/internal/zone"
	"github.com/locksmithd/locksmith/lock"
)

// GroupsDir is the folder with a file for each group that `locksmithctl serve` serves.
const GroupsDir = "/etc/locksmith/groups.d"

// LockGroup returns the group of the lock that clients of FleetLock, and the files of GroupsDir, call by a name. Their
// default group is the one without a name.
func LockGroup(name string) string {
	if name == fleetlock.DefaultGroup {
		return ""
	}
	return name
}

// ServedGroup are the settings of a group that a server serves.
type ServedGroup struct {
	Lock    string // the name of the group in etcd, "" for the default group
	Window  *Window
	Max     int
	LockTTL time.Duration
	Users   string // the file with the users who may use the group, "" for none
}

// servedName matches the groups of FleetLock, except those that would be the names of hidden files.
var servedName = regexp.MustCompile(`^[a-zA-Z0-9-][a-zA-Z0-9.-]*$`)

// Served returns the settings of this host's own group, by the name that clients call it.
func (c *Config) Served() (map[string]ServedGroup, error) {
	name := cmp.Or(c.Group, fleetlock.DefaultGroup)
	if c.Group == fleetlock.DefaultGroup || !servedName.MatchString(name) {
		return nil, fmt.Errorf("group %q cannot be served: clients can name only groups of the letters a-z and A-Z, digits, dots and hyphens, and %q is their name for the group without one: set LOCKSMITHD_GROUP to another name, or write a file for each group into %s",
			c.Group, fleetlock.DefaultGroup, GroupsDir)
	}
	return map[string]ServedGroup{name: {Lock: c.Group, Window: c.Window, Max: c.Max, LockTTL: c.LockTTL}}, nil
}

// ServedGroups returns the groups that have a file in GroupsDir, by the names that clients call them, and nil if
// there is no such folder. What a file does not set has its default, whatever the host's own settings are, apart from
// the host's time zone. Warnings are as those of a Config. The error joins one error for each thing that is wrong, and
// each names the file.
func ServedGroups(root string, host *zone.Zone, warn func(string)) (groups map[string]ServedGroup, warnings []string, err error) {
	dir := filepath.Join(root, GroupsDir)
	entries, err := os.ReadDir(dir)
	switch {
	case readfile.Absent(err):
		return nil, nil, nil
	case err != nil:
		return nil, nil, fmt.Errorf("read %s: %w", dir, errors.Unwrap(err))
	}
	groups = map[string]ServedGroup{}
	var errs []error
	var users []string
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		name, isConf := strings.CutSuffix(entry.Name(), ".conf")
		if owner, ok := strings.CutSuffix(entry.Name(), ".users"); ok && !strings.HasPrefix(owner, ".") {
			users = append(users, owner)
		}
		switch {
		case !isConf || strings.HasPrefix(name, "."): // an editor's, or a README
		case !servedName.MatchString(name) || lock.ValidateGroup(name) != nil:
			errs = append(errs, fmt.Errorf("%s is not named after a group: use the letters a-z and A-Z, digits, dots and hyphens before .conf", path))
		default:
			g, warned, err := servedGroup(path, host, warn)
			g.Lock = LockGroup(name)
			groups[name] = g
			warnings, errs = append(warnings, warned...), append(errs, err)
		}
	}
	for _, name := range users {
		path := filepath.Join(dir, name+".users")
		g, ok := groups[name]
		if !ok {
			errs = append(errs, fmt.Errorf("%s is for a group that is not served: write %s.conf beside it, which may be empty", path, name))
		}
		g.Users = path
		groups[name] = g
	}
	if len(groups) == 0 {
		errs = append(errs, fmt.Errorf("%s has no file for a group: write %s.conf for the group without a name, which may be empty, or remove the folder to serve this host's own group",
			dir, fleetlock.DefaultGroup))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, warnings, err
	}
	return groups, warnings, nil
}

// groupDefinitions returns the settings that the file of a group may have.
func groupDefinitions() []Definition {
	return slices.DeleteFunc(Definitions(), func(d Definition) bool { return d.Part != PartWindow && d.Part != PartLock })
}

// servedGroup reads the file of a group.
func servedGroup(path string, host *zone.Zone, warn func(string)) (ServedGroup, []string, error) {
	f, err := readEnvironmentFile(path)
	if err != nil {
		return ServedGroup{}, nil, err
	}
	var errs []error
	if f.missing { // a link to nowhere
		errs = append(errs, fmt.Errorf("%s cannot be read: it is a link to a file that does not exist", path))
	}
	var allowed []string
	for _, d := range groupDefinitions() {
		allowed = append(allowed, d.Variable)
	}
	for _, line := range f.ignored {
		errs = append(errs, fmt.Errorf("%s:%d: %q is not NAME=VALUE", path, line.line, shorten(line.text, maxShown)))
	}
	for _, a := range f.assignments {
		if !slices.ContainsFunc(groupDefinitions(), func(d Definition) bool { return slices.Contains(d.variables(), a.name) }) {
			errs = append(errs, fmt.Errorf("%s:%d: %s is not a setting of a group: write one of %s", path, a.line, shorten(a.name, maxShown), strings.Join(allowed, ", ")))
		}
	}
	own := &fragments{program: Daemon, files: confFiles{f}}
	o := Options{Program: CLI, Check: PartWindow | PartLock, Warn: warn}
	in, _ := merge(own, nil, o)
	c := &Config{Zone: host}
	errs = append(errs, c.parse(in, o))
	return ServedGroup{Window: c.Window, Max: c.Max, LockTTL: c.LockTTL}, c.Warnings, errors.Join(errs...)
}
