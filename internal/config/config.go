// Package config finds the settings of locksmithd and locksmithctl, in three stages: it reads fragments (flags,
// environments, the configuration files, credentials of systemd), merges them to inputs, each a text that knows
// where it comes from, and parses and checks these to settings.
//
// It guarantees that the configuration files are read as systemd reads them (all but the package's are EnvironmentFile=
// of the unit), that each error says in one sentence which setting is wrong, where it is and what would be right, and
// that no password is in an error, a warning or a Setting.
//
// It does not guarantee that the settings work: it contacts nothing, and files that a setting names may change
// after they were checked.
//
// A new setting is an entry in Definitions and a field of Config. What holds between settings is in rules.go.
package config

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/locksmithd/locksmith/internal/fleetclient"
	"github.com/locksmithd/locksmith/internal/notify"
	"github.com/locksmithd/locksmith/internal/policy"
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

const (
	StrategyEtcdLock  Strategy = "etcd-lock"  // take the lock in etcd first
	StrategyFleetLock Strategy = "fleet-lock" // take a slot from a FleetLock server first
	StrategyReboot    Strategy = "reboot"     // reboot without a lock
	StrategyOff       Strategy = "off"        // do not reboot
)

// Locks reports whether a host with this strategy takes a slot before it reboots.
func (s Strategy) Locks() bool { return s == StrategyEtcdLock || s == StrategyFleetLock }

// HealthFailure is what a host does that is not well after its reboot.
type HealthFailure string

const (
	HealthPause   HealthFailure = "pause"   // keep the slot, and pause the group for the version
	HealthHold    HealthFailure = "hold"    // keep the slot
	HealthRelease HealthFailure = "release" // give the slot back
)

// LogFormat is how the daemon logs where there is no journal.
type LogFormat string

const (
	LogText LogFormat = "text"
	LogJSON LogFormat = "json" // a line an object
)

// Alerts says where alerts are asked for that hold a reboot back. The zero one has none asked for.
type Alerts struct {
	PrometheusURL   string         // without the path of its API; empty if it is not asked
	Query           string         // what Prometheus is asked; an answer that is not empty holds the reboot back
	AlertmanagerURL string         // without the path of its API; empty if it is not asked
	Ignore          *regexp.Regexp // matches the whole name of an alert that does not count; nil if all count
	CAFile          string         // certificate authorities for https; empty for those of the system
	TokenFile       string         // of the bearer token that is sent; empty for none
}

// Part is a set of parts of the programs, which need different settings. A command that needs some settings does
// not fail because of others: a slot can be unlocked although the window is wrong.
type Part uint16

const (
	PartStrategy Part = 1 << iota
	PartWindow
	PartEtcd     // which lock it is, and how to reach it
	PartLock     // creating a lock, and taking a slot
	PartTrigger  // believing who announces a reboot
	PartLogin    // letting users and inhibitors postpone a reboot
	PartHooks    // running the host's hooks, and what has to be true after a reboot
	PartGates    // what else may hold a reboot back
	PartSentinel // noticing that the host needs a reboot
	PartReport   // telling others what the host does
	PartNotify   // telling people and programs elsewhere what has happened

	// partFleetLock is checked in place of PartEtcd and PartLock where the slot is one of a FleetLock server.
	partFleetLock

	partAll = PartStrategy | PartWindow | PartEtcd | PartLock | PartTrigger | PartLogin | PartHooks | PartGates | PartSentinel |
		PartReport | PartNotify
)

// Options say what to load.
type Options struct {
	Program Program
	Root    string   // directory below which the files are, or empty for "/"
	Flags   []Flag   // those given, in the order of the command line
	Environ []string // entries of the form NAME=value, as os.Environ returns them
	// Service is how systemd starts the daemon on this host, from where locksmithctl takes the daemon's settings.
	// It is nil if that is not known.
	Service *systemd.Service
	// Check are the parts to check, 0 for all. PartEtcd and PartLock are checked for the daemon only if the
	// strategy is etcd-lock or fleet-lock, because it uses no lock under others. Under fleet-lock they are about the
	// FleetLock server and not about etcd, except for locksmithctl with an endpoint of its own.
	Check Part
	// Warn is called with a sentence when something that was right when it was loaded can no longer be used, at
	// any time and by any goroutine. It may be nil.
	Warn func(string)
}

// Lock says which lock hosts share, and how to reach it. Equal ones are the same lock, reached in the same way.
type Lock struct {
	Group     string // empty for the default group
	Etcd      etcd.Config
	FleetLock FleetLock // zero if the lock is the one in etcd
}

// FleetLock says which FleetLock server gives the slots.
type FleetLock struct {
	Server    fleetclient.Config
	MachineID bool // the host's id there is its plain machine id, not the one that Zincati makes of it
}

// Config are the effective settings. Those of parts that are not checked are zero.
type Config struct {
	Strategy    Strategy
	StrategySet bool        // Strategy was chosen on this host, and is neither the default nor the package's
	RebootMode  policy.Mode // where the host can do that, and it is enough
	Window      *Window     // nil if there is neither a window nor a blackout: reboots may happen at any time
	Zone        *zone.Zone  // the host's, for times that people read
	Lock
	// OwnEndpoint says that the endpoint was given to locksmithctl itself, on the command line or in a variable of its
	// own: it is to use that etcd, whatever the strategy is.
	OwnEndpoint     bool
	Max             int           // slots of a lock that is created; 1 where nobody creates one, without PartLock
	MaxOrigin       *Origin       // where Max was set, nil if it was not
	LockTTL         time.Duration // how long a slot may be kept, 0 for as long as it takes
	Debug           bool
	LogFormat       LogFormat
	TriggerGroups   []string
	Sentinel        string        // file by which packages say that a reboot is needed, "" for none
	SentinelCommand string        // that says whether a reboot is needed, "" for none
	SentinelPeriod  time.Duration // from one question to the command to the next
	LoginDelay      time.Duration // from telling users to the reboot
	LoginRetry      time.Duration // from a user's cancellation of a reboot to the next attempt
	MaxPostpone     time.Duration // how long users and inhibitors can postpone it, 0 for as long as they like

	BeforeRebootTimeout time.Duration // of the hooks before a reboot
	BootComplete        bool          // boot-complete.target has to be reached after a reboot
	HealthTimeout       time.Duration // until when a host is well after its reboot
	HealthFailure       HealthFailure // what to do after that
	ReleaseDelay        time.Duration // from being well to giving the slot back
	Inventory           bool          // this host writes its record into the inventory, where its lock is in etcd
	MetricsFile         string        // with metrics of this host, for node_exporter, "" for none
	MaxAttempts         int           // boots that may fail to bring up a version before the host gives it up
	MinUptime           time.Duration // of the host before a reboot
	RebootJitter        time.Duration // bounds the random time that is waited before a reboot
	Alerts              Alerts
	Notify              notify.Config

	Settings []Setting // all of them, in the order of Definitions
	// Warnings are sentences about what looks like a mistake but is not an error: lines of update.conf and
	// variables that are nearly settings, and files that are not used, or that others can read.
	Warnings []string
	// Notes are sentences for the user of locksmithctl: where its environment differs from the daemon's settings
	// that are checked, and which of the two counts.
	Notes []string
}

// Value returns the setting of a Definition with this name as it is set, whether settings of its part are checked or
// not; "" for an unknown name. Of a secret it only says whether there is one.
func (c *Config) Value(name string) string {
	for _, s := range c.Settings {
		if s.Name == name {
			return s.Value
		}
	}
	return ""
}

// Load finds and checks the settings once. See Loader.Load.
func Load(o Options) (*Config, error) { return NewLoader(o).Load() }

// Loader loads the settings again and again from the same flags and environment, as the files change. It is for
// one caller at a time.
//
// systemd puts what the files hold when the daemon starts into the daemon's environment, where it stays
// whatever happens to the file. So if a variable has the same value in both at the first load, a Loader of the
// daemon takes it for the file's, and ignores the environment from then on. Variables that differ, or are not in a
// file, were set in another way, and keep winning over the files.
//
// A Load after the first one refuses to drop settings that are in force because their file is missing or empty,
// and to drop the lock because no strategy is set any more.
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

// Load goes through the three stages. The error joins one error for each thing that is wrong, a line each. Config
// is never nil: with an error, its Settings and Warnings can be shown, and are empty if a file could not be read.
// Nothing else of it may be used.
func (l *Loader) Load() (*Config, error) {
	o := l.options
	files, err := readFiles(o.Root)
	if err != nil {
		return &Config{}, err
	}
	own := &fragments{program: o.Program, flags: o.Flags, environ: l.environ, files: files}
	var daemon *fragments // nil where it is not known
	var warnings []string
	switch {
	case o.Program == CLI && o.Service != nil && !o.Service.Masked:
		if daemon, warnings, err = daemonOnHost(o, files); err != nil {
			return &Config{}, err
		}
	case o.Program == Daemon && !l.started:
		own.leaveToFiles()
		l.started = true
	}

	in, notes := merge(own, daemon, o)
	c := &Config{Settings: in.settings(), Notes: notes, Warnings: append(lookalikes(o.Root, own, daemon), warnings...)}
	zone, warning := cmp.Or(daemon, own).hostZone(o)
	if c.Zone = zone; warning != "" {
		c.Warnings = append(c.Warnings, warning)
	}
	if err := errors.Join(c.parse(in, o), lost(l.inForce, in, files)); err != nil {
		return c, err
	}
	l.inForce = in
	return c, nil
}

// lost refuses a reload that would drop settings in force which nobody meant to drop. A file that is missing or
// empty may be about to be written again, and a host that forgets its lock meanwhile reboots at once. Taking a
// single setting out of a file is meant, except for the strategy: without one there is no lock.
func lost(inForce, in inputs, files confFiles) error {
	var errs []error
	strategyLost := false
	for i, f := range files {
		if len(f.assignments) > 0 {
			continue
		}
		var names []string
		for name, was := range inForce {
			is := in[name]
			weaker := is.origin.Kind == FromDefault || slices.ContainsFunc(files[i+1:], func(f environmentFile) bool { return f.path == is.origin.File })
			if was.origin.Kind == FromFile && was.origin.File == f.path && weaker && is.value != was.value {
				names = append(names, was.origin.Name)
				strategyLost = strategyLost || name == nameStrategy
			}
		}
		if len(names) == 0 {
			continue
		}
		state := "has no settings any more"
		if f.missing {
			state = "is missing"
		}
		slices.Sort(names)
		errs = append(errs, fmt.Errorf("%s %s, and %s came from it: write into it what is meant, such as REBOOT_STRATEGY=%s to reboot without a lock, or restart locksmithd to go on without the file",
			f.path, state, strings.Join(names, ", "), StrategyReboot))
	}
	was, is := inForce[nameStrategy], in[nameStrategy]
	if !strategyLost && Strategy(was.value).Locks() && is.origin.Kind == FromDefault {
		state := "is not set any more"
		if is.origin.Name != "" {
			state = "is empty (" + is.origin.place() + ")"
		}
		errs = append(errs, fmt.Errorf("%s %s, and was %s: without it this host would reboot without a lock: if that is meant, write %[1]s=%[4]s",
			is.Variable, state, was.value, StrategyReboot))
	}
	return errors.Join(errs...)
}
