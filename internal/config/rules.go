package config

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/locksmithd/locksmith/internal/hooks"
	"github.com/locksmithd/locksmith/lock/etcd"
)

// rules are about several settings. Each counts where its part is checked. Those that only warn come last.
var rules = []struct {
	part  Part
	check func(*parser) error
}{
	{PartWindow, parseWindow},
	{PartEtcd, checkEtcd},
	{PartEtcd, warnOfFiles},
	{partFleetLock, checkFleetLock},
	{partFleetLock, warnOfFleetLockFiles},
	{PartStrategy, warnOfUnusedFleetLock},
	{PartHooks, holdWithFleetLock},
	{PartHooks, warnOfHooks},
	{PartLogin | PartHooks, warnOfShortWindow},
	{PartLock, warnOfShortTTL},
	{PartGates, warnOfAlerts},
	{PartSentinel, warnOfSentinel},
	{PartNotify, warnOfNotify},
	{PartSentinel, warnOfInverseCommand},
	{PartStrategy, warnOfMode},
	{PartStrategy, warnOfRivals},
	{PartReport, warnOfLogFormat},
}

// preferPassword ignores a credential with a password where somebody has set a password.
func (in inputs) preferPassword() {
	if file := in.of(etcd.OptionPasswordFile); file.origin.Kind == FromCredential && in.of(etcd.OptionPassword).value != "" {
		in[file.Name] = file.Definition.input("", Origin{})
	}
}

// without says that the setting needs another one.
func (in input) without(other input) error {
	if other.withheld != "" {
		return in.elsewhere("key", other.withheld, other)
	}
	// Name the missing one as it is written where the other is.
	missing := other.Variable
	switch {
	case strings.HasPrefix(in.origin.Name, "-"):
		missing = "-" + other.Name
	case in.origin.Kind == FromEnvironment && in.origin.Name == in.CLIVariable():
		missing = other.CLIVariable()
	case in.origin.Name == in.Fallback:
		missing = other.Fallback
	}
	return in.refuse("it is set without %s: set both or neither", missing)
}

// elsewhere says that the daemon has the secret that the setting needs from a place that locksmithctl does not read.
// file is the setting for a file with the secret.
func (in input) elsewhere(secret, from string, file input) error {
	return in.refuse("locksmithd has the %s from %s, and locksmithctl does not read it there: write it into a file that only root can read, and set %s, or give -%s",
		secret, from, file.Variable, file.Name)
}

// checkEtcd has package etcd check its options, and says which settings are wrong.
func checkEtcd(p *parser) error {
	var errs []error
	for _, wrong := range p.Etcd.Validate() {
		errs = append(errs, p.inputs.refuse(wrong))
	}
	return errors.Join(errs...)
}

// refuse says what is wrong with the setting for an option.
func (in inputs) refuse(wrong *etcd.OptionError) error {
	setting := in.of(wrong.Option)
	password, file := in.of(etcd.OptionPassword), in.of(etcd.OptionPasswordFile)
	switch {
	case wrong.Missing == etcd.OptionPassword && cmp.Or(password.withheld, file.withheld) != "":
		return setting.elsewhere("password", cmp.Or(password.withheld, file.withheld), file)
	case wrong.Missing != 0:
		return setting.without(in.of(wrong.Missing))
	case wrong.Conflicting != 0:
		return setting.refuse("%s is set as well: set one of them", in.of(wrong.Conflicting).subject())
	case wrong.Option == etcd.OptionEndpoint && strings.Contains(setting.value, "@"):
		return setting.refuse("it has a user in it: use %s and %s", in.of(etcd.OptionUsername).Variable, password.Variable)
	}
	return setting.refuse("%w", wrong.Err)
}

// warnOfFiles warns of files that are not used, and of secrets that other users can see.
func warnOfFiles(p *parser) error {
	for _, o := range []etcd.Option{etcd.OptionCAFile, etcd.OptionCertFile, etcd.OptionKeyFile} {
		if in := p.inputs.of(o); in.value != "" && !p.Etcd.Encrypted() {
			p.warn("%s: it has no effect, because the connection to %s is not encrypted: write https there", in.subject(), p.inputs.of(etcd.OptionEndpoint).shown())
		}
	}
	for _, o := range []etcd.Option{etcd.OptionKeyFile, etcd.OptionPassword, etcd.OptionPasswordFile} {
		in := p.inputs.of(o)
		file := in.value
		if in.Secret {
			file = in.origin.File
		}
		switch {
		case in.value == "":
		case in.Secret && in.origin.Kind == FromFlag && p.options.Program == Daemon: // locksmithctl warns by itself
			p.warn("%s: every user of this host can see it with ps: write it into a file and set %s", in.subject(), p.inputs.of(etcd.OptionPasswordFile).Variable)
		default:
			p.warnOfReaders(in, file)
		}
	}
	return nil
}

// warnOfReaders warns if other users can read a file with a secret of the setting.
func (p *parser) warnOfReaders(in input, file string) {
	if info, err := os.Stat(file); err == nil && info.Mode().Perm()&0o077 != 0 {
		p.warn("%s: users other than its owner may read %s (mode %04o): run chmod 600 %[2]s", in.subject(), file, info.Mode().Perm())
	}
}

const (
	// rebootTime is how long a slow reboot takes, without the delay for users.
	rebootTime = 20 * time.Minute
	// shortLockTTL is a time that a slow reboot may well exceed.
	shortLockTTL = 30 * time.Minute
)

// warnOfShortWindow counts no hooks and no delay where their part is not checked, because their times are zero then.
func warnOfShortWindow(p *parser) error {
	length := p.inputs[nameWindowLength]
	d, err := time.ParseDuration(length.value)
	drain := p.counted(nameBeforeRebootTimeout, hooks.BeforeReboot, p.BeforeRebootTimeout)
	least := drain + p.LoginDelay + time.Minute
	switch {
	case p.Window == nil || err != nil || d >= least:
	case drain > 0:
		p.warn("%s: it is too short for the hooks before a reboot, which may take %v, and for logged-in users, who have %v: write %v or more, or a shorter %s",
			length.subject(), drain, p.LoginDelay, least, p.inputs[nameBeforeRebootTimeout].Variable)
	case p.LoginDelay > 0:
		p.warn("%s: it is too short for a reboot while users are logged in, who are told %v before it: write at least a minute more, or a shorter %s",
			length.subject(), p.LoginDelay, p.inputs[nameLoginDelay].Variable)
	}
	return nil
}

// warnOfShortTTL counts no delay where PartLogin is not checked, because no user is told then, and no hooks where
// PartHooks is not.
func warnOfShortTTL(p *parser) error {
	least := p.LoginDelay + rebootTime
	included := []string{fmt.Sprintf("the %v of logged-in users", p.LoginDelay)}
	for _, t := range []struct {
		name string
		time.Duration
	}{
		{nameBeforeRebootTimeout, p.counted(nameBeforeRebootTimeout, hooks.BeforeReboot, p.BeforeRebootTimeout)},
		{nameHealthTimeout, p.counted(nameHealthTimeout, hooks.AfterReboot, p.HealthTimeout)},
		{nameReleaseDelay, p.ReleaseDelay},
	} {
		if least += t.Duration; t.Duration > 0 {
			included = append(included, fmt.Sprintf("the %v of %s", t.Duration, p.inputs[t.name].Variable))
		}
	}
	last := len(included) - 1
	list := included[last]
	if last > 0 {
		list = strings.Join(included[:last], ", ") + " and " + list
	}
	if least = max(shortLockTTL, least); p.LockTTL > 0 && p.LockTTL < least {
		p.warn("%s: it is short: if a reboot takes longer, including %s, the host loses its slot to another one, and both are down at once: write %v or more",
			p.inputs[nameLockTTL].subject(), list, least)
	}
	return nil
}

// warnOfLogFormat says that systemd gives the daemon a journal, where somebody looks at the settings. The daemon itself
// sees where its lines go.
func warnOfLogFormat(p *parser) error {
	if s := p.options.Service; p.LogFormat == LogJSON && p.options.Program == CLI && s != nil && !s.Masked {
		p.warn("%s: it has no effect in the journal, where locksmithd.service logs unless its StandardError= says otherwise: "+
			"journalctl -o json shows lines as JSON", p.inputs[nameLogFormat].subject())
	}
	return nil
}

func (p *parser) warn(format string, args ...any) {
	p.Warnings = append(p.Warnings, fmt.Sprintf(format, args...))
}
