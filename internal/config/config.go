// Package config finds the settings of locksmithd and locksmithctl: it merges
// command line flags, the environment, the two update.conf files, credentials of
// systemd and the defaults, setting by setting, and checks the result.
//
// It guarantees that every setting knows where its value comes from, that
// update.conf is read as systemd reads it (the files are EnvironmentFile= of the
// unit), that each error says in one sentence which setting is wrong, where it is
// and what would be right, and that no password is in an error, a warning or a
// Setting.
//
// It does not guarantee that the settings work: nothing is contacted, and files
// that a setting names may change after they were checked.
package config

import (
	"errors"
	"time"

	"github.com/locksmithd/locksmith/internal/zone"
	"github.com/locksmithd/locksmith/lock/etcd"
	"github.com/locksmithd/locksmith/systemd"
)

// Program is a program that is configured.
type Program string

// The two programs. They share the files, but not all variables of the environment.
const (
	Daemon Program = "locksmithd"
	CLI    Program = "locksmithctl"
)

// Strategy is how to reboot after an update.
type Strategy string

// The strategies.
const (
	StrategyEtcdLock Strategy = "etcd-lock" // take the lock in etcd first
	StrategyReboot   Strategy = "reboot"    // reboot without a lock
	StrategyOff      Strategy = "off"       // do not reboot
)

// Part is a set of settings that are checked together. A program that uses some
// settings only does not fail because of others: a slot can be unlocked although
// the window is wrong.
type Part uint8

// The parts. All of them is the zero Part as well.
const (
	PartStrategy Part = 1 << iota
	PartWindow        // window start, length and time zone
	PartEtcd          // endpoints, files, user, password and group
	PartLock          // how to use the lock: the number of slots, and the time-to-live
	PartTrigger       // trigger groups
	PartLogin         // what users and inhibitors can postpone

	partAll = PartStrategy | PartWindow | PartEtcd | PartLock | PartTrigger | PartLogin
)

// Options say what to load.
type Options struct {
	Program Program
	// Root is the directory below which update.conf and the machine id are, or
	// empty for "/".
	Root string
	// Flags are those given, in the order of the command line.
	Flags []Flag
	// Environ has entries of the form NAME=value, as os.Environ returns them.
	Environ []string
	// Service is how systemd starts the daemon on this host, for locksmithctl, which takes
	// the daemon's settings from there; nil if that is not known.
	Service *systemd.Service
	// Check are the parts to check, 0 for all. The daemon's PartEtcd and PartLock are
	// checked only if the strategy is etcd-lock; under others it never uses etcd.
	Check Part
	// Warn is called with a sentence when something that was right when it was loaded cannot be
	// used any more, at any time and by any goroutine. It may be nil.
	Warn func(string)
}

// Lock says which lock hosts share, and where it is. Two that are equal are one lock, reached in the same way.
type Lock struct {
	// Group is empty for the default group.
	Group string
	Etcd  etcd.Config
}

// Config are the effective settings.
type Config struct {
	Strategy Strategy
	// StrategySet says that Strategy was chosen, and is not the default.
	StrategySet bool
	// Window is nil if there is none: reboots may happen at any time.
	Window *Window
	// Zone is the host's time zone, for times that people read.
	Zone *zone.Zone
	Lock
	// Max is the number of slots that a lock gets when it is created. Without
	// PartLock nobody creates one, and it is 1.
	Max int
	// LockTTL is how long a slot may be kept, 0 for as long as it takes.
	LockTTL       time.Duration
	Debug         bool
	TriggerGroups []string
	LoginDelay    time.Duration // from telling users to the reboot
	LoginRetry    time.Duration // from a user's cancelling it to the next attempt
	MaxPostpone   time.Duration // how long users and inhibitors can postpone it, 0 for as long as they like
	// Settings are all of them, in the order of Definitions.
	Settings []Setting
	// Warnings are sentences about what looks like a mistake but is not an
	// error: lines of update.conf and variables that are not settings but nearly
	// so, and files that are not used, or that others can read.
	Warnings []string
	// Notes are sentences for whoever runs locksmithctl: where its environment differs from the daemon's
	// settings that are checked, and which of them counts.
	Notes []string
}

// Load finds and checks the settings once. See Loader.Load.
func Load(o Options) (*Config, error) { return NewLoader(o).Load() }

// Loader loads the settings again and again from the same flags and environment, as
// the files change. It is for one caller at a time.
//
// systemd puts what update.conf holds when the daemon starts into the daemon's
// environment, where it stays whatever happens to the file. So a Loader of the
// daemon takes a variable for the file's, and no longer looks at the
// environment for it, if at the first load both have the same value. Variables that
// differ, or are not in a file, were set in another way, and go on to win over
// the files.
//
// A Load after the first one refuses what would drop settings that are in force because
// their file is missing or empty, or the lock because no strategy is set any more.
type Loader struct {
	options Options
	environ map[string]variable
	started bool
	inForce inputs // of the last Load without an error
}

// NewLoader returns a Loader. It reads nothing yet.
func NewLoader(o Options) *Loader {
	if o.Check == 0 {
		o.Check = partAll
	}
	return &Loader{options: o, environ: environment(o.Environ)}
}

// Load reads the files, merges and checks. The error joins one error for each
// thing that is wrong, a line each. Config is never nil; with an error its
// Settings and Warnings are right, so that they can be shown, or empty if a file
// could not be read, and nothing else of it may be used.
func (l *Loader) Load() (*Config, error) {
	o := l.options
	files, err := readFiles(o.Root)
	if err != nil {
		return &Config{}, err
	}
	own := &fragments{program: o.Program, flags: o.Flags, environ: l.environ, files: files}
	programs, host := []*fragments{own}, own
	var daemon *fragments
	var warnings []string
	switch {
	case o.Program == CLI && o.Service != nil && !o.Service.Masked:
		if daemon, warnings, err = daemonOnHost(o, files); err != nil {
			return &Config{}, err
		}
		programs, host = append(programs, daemon), daemon
	case o.Program == Daemon && !l.started:
		own.leaveToFiles()
		l.started = true
	}

	in, notes := merge(own, daemon, o)
	c := &Config{Settings: in.settings(), Notes: notes, Warnings: append(lookalikes(o.Root, files, programs...), warnings...)}
	zone, warning := host.hostZone(o)
	if c.Zone = zone; warning != "" {
		c.Warnings = append(c.Warnings, warning)
	}
	if err := errors.Join(c.parse(in, o), lost(l.inForce, in, files)); err != nil {
		return c, err
	}
	l.inForce = in
	return c, nil
}
