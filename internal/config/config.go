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
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
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

// Flag is a command line flag that was given, by its name without dashes.
type Flag struct{ Name, Value string }

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

// Config are the effective settings.
type Config struct {
	Strategy Strategy
	// StrategySet says that Strategy was chosen, and is not the default.
	StrategySet bool
	// Window is nil if there is none: reboots may happen at any time.
	Window *Window
	// Zone is the host's time zone, for times that people read.
	Zone *zone.Zone
	// Group is empty for the default group.
	Group string
	Etcd  etcd.Config
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

// updateConf are the configuration files, strongest first. A host may set
// variables in either.
func updateConf() []string {
	return []string{"/etc/flatcar/update.conf", "/usr/share/flatcar/update.conf"}
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
	environ map[string]string
	started bool
	inForce map[string]resolved // what the last Load without an error found

	// Of the daemon as systemd starts it, where locksmithctl has it as daemon.
	origins   map[string]Origin // of variables of environ
	flagsFrom string            // which unit file has the flags

	daemon *Loader  // of locksmithctl; nil if it is not known how systemd starts the daemon
	notes  []string // of the Load that runs
}

// NewLoader returns a Loader. It reads nothing yet.
func NewLoader(o Options) *Loader {
	if o.Check == 0 {
		o.Check = partAll
	}
	l := &Loader{options: o, environ: map[string]string{}}
	for _, entry := range o.Environ {
		name, value, _ := strings.Cut(entry, "=")
		if _, ok := l.environ[name]; !ok { // the first one counts, as for getenv(3)
			l.environ[name] = value
		}
	}
	return l
}

// Load reads the files, merges and checks. The error joins one error for each
// thing that is wrong, a line each. Config is never nil; with an error its
// Settings and Warnings are right, so that they can be shown, or empty if a file
// could not be read, and nothing else of it may be used.
func (l *Loader) Load() (*Config, error) {
	files, err := readFiles(l.options.Root)
	if err != nil {
		return &Config{}, err
	}
	var warnings []string
	if l.options.Program == CLI && l.options.Service != nil && !l.options.Service.Masked {
		if l.daemon, warnings, err = daemonOnHost(l.options); err != nil {
			return &Config{}, err
		}
		l.daemon.start(files)
	}
	if l.options.Program == Daemon {
		l.start(files)
	}
	l.notes = nil

	settings := map[string]resolved{}
	c := &Config{Warnings: append(l.lookalikes(files), warnings...)}
	zone, warning := l.hostZone(files)
	if c.Zone = zone; warning != "" {
		c.Warnings = append(c.Warnings, warning)
	}
	for _, d := range Definitions() {
		r := l.resolve(d, files)
		if d.Name == namePasswordFile && r.origin.Kind == FromCredential && settings[namePassword].value != "" {
			r = d.resolved("", Origin{}) // a password that somebody chose counts more
		}
		settings[d.Name] = r
		c.Settings = append(c.Settings, Setting{Name: d.Name, Value: r.shown(), Origin: r.origin})
	}
	c.Notes = l.notes
	if err := errors.Join(c.check(settings, l.options), l.lost(settings, files)); err != nil {
		return c, err
	}
	l.inForce = settings
	return c, nil
}

// start leaves to the files what systemd put from them into the daemon's environment.
func (l *Loader) start(files confFiles) {
	if l.started {
		return
	}
	l.started = true
	maps.DeleteFunc(l.environ, func(name, value string) bool {
		a, _, ok := files.lookup(name)
		return ok && a.value == value
	})
}

// resolve finds the value of a setting that is in force.
func (l *Loader) resolve(d Definition, files confFiles) resolved {
	var given []string
	for _, f := range l.options.Flags {
		if f.Name == d.Flag {
			given = append(given, f.Value)
		}
	}
	if d.Flag != "" && len(given) > 0 {
		if !d.List {
			given = given[len(given)-1:]
		}
		from := Origin{Kind: FromFlag, Name: "-" + d.Flag}
		if l.flagsFrom != "" {
			from.Kind, from.File = FromUnit, l.flagsFrom
		}
		return d.resolved(strings.Join(given, ","), from)
	}
	if l.daemon != nil {
		return l.resolveOnHost(d, files)
	}

	r := d.resolved("", Origin{})
	for _, name := range d.variables() {
		value, from, ok := l.variable(d, name, files)
		switch {
		case ok && value != "":
			return d.resolved(value, from)
		case ok && r.origin.Name == "":
			r = d.resolved("", from)
		}
	}
	if path := l.credential(d.Credential); r.origin.Name == "" && path != "" {
		return d.resolved(path, Origin{Kind: FromCredential, Name: d.Credential})
	}
	return r
}

// credential returns the path of a credential that systemd has for this process, see
// systemd.exec(5), or "".
func (l *Loader) credential(name string) string {
	dir := l.environ["CREDENTIALS_DIRECTORY"]
	if dir == "" || name == "" {
		return ""
	}
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	return path
}

// variable returns the strongest value of one variable. It may be empty: an
// empty value hides weaker ones.
func (l *Loader) variable(d Definition, name string, files confFiles) (string, Origin, bool) {
	inEnviron := name
	if l.options.Program == CLI && d.CLIVariable != "" {
		inEnviron = d.CLIVariable
	}
	if value, ok := l.environ[inEnviron]; ok {
		if from, known := l.origins[inEnviron]; known {
			return value, from, true
		}
		return value, Origin{Kind: FromEnvironment, Name: inEnviron}, true
	}
	if a, path, ok := files.lookup(name); ok {
		return a.value, Origin{Kind: FromFile, Name: name, File: path, Line: a.line}, true
	}
	return "", Origin{}, false
}

// resolved returns the setting with a value that was found, or with the default
// if that is empty.
func (d Definition) resolved(value string, from Origin) resolved {
	if value == "" {
		value, from.Kind = d.Default, FromDefault
	}
	return resolved{Definition: d, value: value, origin: from}
}

// confFile is one update.conf.
type confFile struct {
	path string
	environmentFile
}

// confFiles are the update.conf files, strongest first.
type confFiles []confFile

func readFiles(root string) (confFiles, error) {
	var files confFiles
	var errs []error
	for _, path := range updateConf() {
		path = filepath.Join(root, path)
		f, err := readEnvironmentFile(path)
		if err != nil {
			errs = append(errs, err)
		}
		files = append(files, confFile{path, f})
	}
	return files, errors.Join(errs...)
}

func (files confFiles) lookup(name string) (assignment, string, bool) {
	for _, f := range files {
		if a, ok := f.environmentFile.lookup(name); ok {
			return a, f.path, true
		}
	}
	return assignment{}, "", false
}
