package config

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/lock/etcd"
)

// check sets the fields of c from the settings, and says what is wrong with them.
func (c *Config) check(settings map[string]resolved, o Options) error {
	var errs []error
	for _, f := range o.Flags {
		if !slices.ContainsFunc(Definitions(), func(d Definition) bool { return f.Name != "" && d.Flag == f.Name }) {
			errs = append(errs, fmt.Errorf("-%s is not a flag for a setting", f.Name))
		}
	}

	var err error
	if c.Debug, err = strconv.ParseBool(settings[nameDebug].value); err != nil {
		errs = append(errs, settings[nameDebug].refuse("it is no boolean: write true or false"))
	}
	c.Strategy, err = parseStrategy(settings[nameStrategy])
	c.StrategySet = settings[nameStrategy].origin.Kind != FromDefault
	if o.Check&PartStrategy != 0 {
		errs = append(errs, err)
	}
	if o.Check&PartWindow != 0 {
		errs = append(errs, c.parseWindow(settings[nameWindowStart], settings[nameWindowLength], settings[nameWindowTimezone], o.Warn))
	}
	usesEtcd := o.Program == CLI || c.Strategy == StrategyEtcdLock
	if o.Check&PartEtcd != 0 && usesEtcd {
		c.Group = settings[nameGroup].value
		errs = append(errs, checkGroup(settings[nameGroup]))
		c.Etcd, err = parseEtcd(settings)
		errs = append(errs, err)
		c.Warnings = append(c.Warnings, unusedFiles(settings, c.Etcd)...)
		c.Warnings = append(c.Warnings, exposed(settings, o.Program)...)
	}
	c.Max = 1
	if o.Check&PartLock != 0 && usesEtcd {
		c.Max, err = parseMax(settings[nameMax])
		errs = append(errs, err)
		c.LockTTL, err = parseLockTTL(settings[nameLockTTL])
		errs = append(errs, err)
	}
	if o.Check&PartTrigger != 0 {
		c.TriggerGroups, err = parseTriggerGroups(settings[nameTriggerGroups])
		errs = append(errs, err)
	}
	if o.Check&PartLogin != 0 {
		errs = append(errs, c.parseLogin(settings))
		if c.Window != nil {
			length, lengthErr := time.ParseDuration(settings[nameWindowLength].value)
			if lengthErr == nil && c.LoginDelay > 0 && length < c.LoginDelay+time.Minute {
				c.Warnings = append(c.Warnings, fmt.Sprintf("%s: it is too short for a reboot while users are logged in, who are told %v before: write at least a minute more, or a shorter %s",
					settings[nameWindowLength].subject(), c.LoginDelay, settings[nameLoginDelay].Variable))
			}
		}
	}
	// Where PartLogin is not checked, nobody is told, and there is no delay.
	if least := max(shortLockTTL, c.LoginDelay+rebootTime); c.LockTTL > 0 && c.LockTTL < least {
		c.Warnings = append(c.Warnings, fmt.Sprintf("%s: it is short: a reboot that takes longer, the %v of logged-in users included, loses its slot to another host, and both are down at once: write %v or more",
			settings[nameLockTTL].subject(), c.LoginDelay, least))
	}
	return errors.Join(errs...)
}

// parseLogin sets what users and inhibitors can postpone.
func (c *Config) parseLogin(settings map[string]resolved) error {
	var errs []error
	for _, d := range []struct {
		name  string
		to    *time.Duration
		least time.Duration
		right string
	}{
		{nameLoginDelay, &c.LoginDelay, 0, "0 or more, such as 5m"},
		{nameLoginRetry, &c.LoginRetry, time.Minute, "1m or more, such as 1h"},
		{nameMaxPostpone, &c.MaxPostpone, 0, "more than 0, such as 24h, or 0 for as long as they like"},
	} {
		var err error
		r := settings[d.name]
		if *d.to, err = time.ParseDuration(r.value); err != nil || *d.to < d.least || *d.to > maxDuration {
			errs = append(errs, r.refuse("it is no such duration: write %s, and 8760h at most", d.right))
		}
	}
	return errors.Join(errs...)
}

func parseStrategy(r resolved) (Strategy, error) {
	switch s := Strategy(r.value); s {
	case StrategyEtcdLock, StrategyReboot, StrategyOff:
		return s, nil
	}
	return "", r.refuse("it is no strategy: write %s, %s or %s", StrategyEtcdLock, StrategyReboot, StrategyOff)
}

func checkGroup(r resolved) error {
	if err := lock.ValidateGroup(r.value); err != nil {
		return r.refuse("%w", err)
	}
	return nil
}

func parseMax(r resolved) (int, error) {
	n, err := strconv.ParseUint(r.value, 10, 31) // takes no sign
	if err != nil {
		return 0, r.refuse("it is no number of slots: write a whole number from 0, so that nobody reboots, to 2147483647")
	}
	return int(n), nil
}

const (
	// maxDuration is far more than anybody needs, and less than etcd takes.
	maxDuration = 365 * 24 * time.Hour
	// rebootTime is what a slow reboot takes, users' delay aside.
	rebootTime = 20 * time.Minute
	// shortLockTTL is less than what it may well take with that.
	shortLockTTL = 30 * time.Minute
)

// parseLockTTL returns 0 for none.
func parseLockTTL(r resolved) (time.Duration, error) {
	if r.value == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(r.value)
	if err != nil || d < lock.MinTTL || d > maxDuration {
		return 0, r.refuse("it is no time-to-live: write a duration from 1m to 8760h, such as 30m, or nothing for none")
	}
	return d, nil
}

func parseEtcd(settings map[string]resolved) (etcd.Config, error) {
	for _, name := range []string{nameCAFile, nameCertFile, nameKeyFile, nameUsername, namePassword, namePasswordFile} {
		if r := settings[name]; !utf8.ValidString(r.value) || strings.ContainsFunc(r.value, unicode.IsControl) {
			return etcd.Config{}, r.refuse("it has characters that cannot be printed")
		}
	}
	c := etcd.Config{
		CAFile:   settings[nameCAFile].value,
		CertFile: settings[nameCertFile].value,
		KeyFile:  settings[nameKeyFile].value,
		Username: settings[nameUsername].value,
		Password: settings[namePassword].value,

		PasswordFile: settings[namePasswordFile].value,

		Names:           map[string]string{},
		DefaultEndpoint: settings[nameEndpoint].origin.Kind == FromDefault,
	}
	for _, name := range []string{nameEndpoint, nameCAFile, nameCertFile, nameKeyFile, nameUsername, namePassword, namePasswordFile} {
		c.Names[name] = settings[name].called()
	}
	for item := range strings.SplitSeq(settings[nameEndpoint].value, ",") {
		if item = strings.TrimSpace(item); item != "" {
			c.Endpoints = append(c.Endpoints, item)
		}
	}

	// What is right is for package lock to say. It stops at the first that is
	// wrong, so it is asked about one file or pair at a time.
	errs := []error{checkEndpoints(settings, c.Endpoints)}
	anywhere := []string{"https://127.0.0.1:2379"}
	if unencrypted(c) {
		anywhere = []string{"http://127.0.0.1:2379"} // where files do not count
	}
	errs = append(errs, validate(settings, etcd.Config{Endpoints: anywhere, CAFile: c.CAFile}))
	if err := bothOrNeither(settings[nameCertFile], settings[nameKeyFile]); err != nil {
		errs = append(errs, err)
	} else {
		errs = append(errs, validate(settings, etcd.Config{Endpoints: anywhere, CertFile: c.CertFile, KeyFile: c.KeyFile}))
	}
	return c, errors.Join(append(errs, checkUser(settings, c))...)
}

// called returns what messages of package lock call the setting: how it is set, or where it could be. It
// has no line number, since the connection to etcd need not change when the file does elsewhere.
func (r resolved) called() string {
	switch o := r.origin; {
	case o.Kind == FromDefault:
		return r.Variable + " in " + updateConf()[0]
	case o.Kind == FromFlag:
		return o.Name
	case o.Kind == FromFile:
		return o.Name + " in " + o.File
	default:
		return o.String()
	}
}

func checkUser(settings map[string]resolved, c etcd.Config) error {
	password, file := settings[namePassword], settings[namePasswordFile]
	switch {
	case c.Username != "" && c.Password == "" && c.PasswordFile == "" && cmp.Or(password.withheld, file.withheld) != "":
		return settings[nameUsername].elsewhere("password", cmp.Or(password.withheld, file.withheld), file)
	case c.PasswordFile == "":
		return bothOrNeither(settings[nameUsername], password)
	case c.Password != "":
		return file.refuse("%s is set as well: set one of them", password.subject())
	case c.Username == "":
		return bothOrNeither(settings[nameUsername], file)
	}
	return validate(settings, etcd.Config{Endpoints: []string{settings[nameEndpoint].Default}, Username: c.Username, PasswordFile: c.PasswordFile})
}

// exposed returns a warning for each secret that other users can see. locksmithctl warns
// of those on its command line by itself.
func exposed(settings map[string]resolved, program Program) []string {
	var warnings []string
	for _, name := range []string{nameKeyFile, namePassword, namePasswordFile} {
		r := settings[name]
		file := r.value
		if r.Secret {
			file = r.origin.File
		}
		switch info, err := os.Stat(file); {
		case r.value == "":
		case r.Secret && r.origin.Kind == FromFlag && program == Daemon:
			warnings = append(warnings, r.subject()+": every user of this host can see it with ps: write it into a file and set "+settings[namePasswordFile].Variable)
		case err == nil && info.Mode().Perm()&0o077 != 0:
			warnings = append(warnings, fmt.Sprintf("%s: other users than its owner may read %s (mode %04o): run chmod 600 %[2]s", r.subject(), file, info.Mode().Perm()))
		}
	}
	return warnings
}

// unencrypted reports whether connections to etcd use no TLS.
func unencrypted(c etcd.Config) bool {
	return len(c.Endpoints) > 0 && strings.HasPrefix(strings.ToLower(c.Endpoints[0]), "http:")
}

// unusedFiles returns a warning for each file that an unencrypted connection does not use.
func unusedFiles(settings map[string]resolved, c etcd.Config) []string {
	var warnings []string
	for _, name := range []string{nameCAFile, nameCertFile, nameKeyFile} {
		if endpoint := settings[nameEndpoint]; settings[name].value != "" && unencrypted(c) {
			warnings = append(warnings, fmt.Sprintf("%s: it has no effect, because the connection to %s is not encrypted: write https there", settings[name].subject(), endpoint.shown()))
		}
	}
	return warnings
}

func checkEndpoints(settings map[string]resolved, endpoints []string) error {
	if r := settings[nameEndpoint]; strings.Contains(r.value, "@") {
		// Said here because what is wrong with it might be said with a password.
		return r.refuse("it has a user in it: use %s and %s", settings[nameUsername].Variable, settings[namePassword].Variable)
	}
	return validate(settings, etcd.Config{Endpoints: endpoints})
}

// validate asks package lock, and says which setting it is about.
func validate(settings map[string]resolved, c etcd.Config) error {
	err := c.Validate()
	var option *etcd.OptionError
	if errors.As(err, &option) {
		return settings[option.Option].refuse("%w", option.Err)
	}
	return err
}

// groupName is what useradd(8) and its kin take for a name, in any case.
var groupName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*\$?$`)

func parseTriggerGroups(r resolved) ([]string, error) {
	groups := strings.FieldsFunc(r.value, func(c rune) bool { return c == ' ' || c == ',' })
	for _, group := range groups {
		if !groupName.MatchString(group) {
			return nil, r.refuse("%q is not the name of a group: write names of groups with a space or comma between them, such as %s", group, r.Default)
		}
	}
	if len(groups) == 0 {
		return nil, r.refuse("it names no group: write at least one, such as root for nobody else")
	}
	return groups, nil
}

// bothOrNeither refuses one of two settings without the other.
func bothOrNeither(a, b resolved) error {
	if a.value == "" {
		a, b = b, a
	}
	if a.value == "" || b.value != "" {
		return nil
	}
	if b.withheld != "" {
		return a.elsewhere("key", b.withheld, b)
	}
	// Name the missing one as it is written where the other is.
	missing := b.Variable
	switch {
	case strings.HasPrefix(a.origin.Name, "-"):
		missing = "-" + b.Flag
	case a.origin.Kind == FromEnvironment && a.origin.Name == a.CLIVariable:
		missing = b.CLIVariable
	case a.origin.Name == a.Fallback:
		missing = b.Fallback
	}
	return a.refuse("it is set without %s: set both or neither", missing)
}

// elsewhere says that the daemon has a secret that belongs to the setting from where locksmithctl takes none. file is
// the setting for a file with it.
func (r resolved) elsewhere(secret, from string, file resolved) error {
	return r.refuse("locksmithd has the %s from %s, and locksmithctl takes none from there: write it into a file that only root can read, and set %s, or give -%s",
		secret, from, file.Variable, file.Flag)
}
