package config

import (
	"fmt"
	"strings"

	"github.com/locksmithd/locksmith/lock/etcd"
)

// Definition describes one setting: where it may come from and what it is
// without being set.
type Definition struct {
	// Name is the setting's name among the effective settings.
	Name string
	// Flag is the name of the command line flag, without dashes, or empty.
	Flag string
	// Variable is the name in update.conf and in the daemon's environment.
	Variable string
	// Fallback is an older name that counts where Variable is unset or empty.
	Fallback string
	// CLIVariable is what locksmithctl reads in its environment instead of
	// Variable, or empty if it reads Variable.
	CLIVariable string
	// Credential is the name of the systemd credential whose file counts where
	// nothing else is set, or empty.
	Credential string
	// Default is the value of a setting that is unset or empty.
	Default string
	// Description is one line for usage texts.
	Description string
	// Switch says that the flag may stand without a value, which means "true".
	Switch bool
	// List says that a flag given several times adds up; of others the last counts.
	List bool
	// Secret says that the value must not be shown.
	Secret bool
}

// variables returns the names in update.conf, the stronger one first.
func (d Definition) variables() []string {
	if d.Fallback == "" {
		return []string{d.Variable}
	}
	return []string{d.Variable, d.Fallback}
}

// Names of settings. Those for etcd are the names that etcd.OptionError uses.
const (
	nameStrategy       = "strategy"
	nameWindowStart    = "window-start"
	nameWindowLength   = "window-length"
	nameWindowTimezone = "window-timezone"
	nameEndpoint       = etcd.OptionEndpoint
	nameGroup          = "group"
	nameCAFile         = etcd.OptionCAFile
	nameCertFile       = etcd.OptionCertFile
	nameKeyFile        = etcd.OptionKeyFile
	nameUsername       = etcd.OptionUsername
	namePassword       = etcd.OptionPassword
	namePasswordFile   = etcd.OptionPasswordFile
	nameMax            = "max"
	nameLockTTL        = "lock-ttl"
	nameLoginDelay     = "login-delay"
	nameLoginRetry     = "login-retry"
	nameMaxPostpone    = "max-postpone"
	nameDebug          = "debug"
	nameTriggerGroups  = "trigger-groups"
)

// localTime is the time zone that stands for the host's own.
const localTime = "Local"

// Definitions returns every setting, in the order in which they are shown. The
// caller owns the slice.
func Definitions() []Definition {
	return []Definition{
		{
			Name:        nameStrategy,
			Variable:    "REBOOT_STRATEGY",
			Default:     string(StrategyReboot),
			Description: "how to reboot after an update: etcd-lock, reboot or off",
		},
		{
			Name:        nameWindowStart,
			Variable:    "LOCKSMITHD_REBOOT_WINDOW_START",
			Fallback:    "REBOOT_WINDOW_START",
			Description: "when the window for reboots opens, such as Thu 04:00",
		},
		{
			Name:        nameWindowLength,
			Variable:    "LOCKSMITHD_REBOOT_WINDOW_LENGTH",
			Fallback:    "REBOOT_WINDOW_LENGTH",
			Description: "how long the window for reboots stays open, such as 1h30m",
		},
		{
			Name:        nameWindowTimezone,
			Variable:    "LOCKSMITHD_REBOOT_WINDOW_TIMEZONE",
			Default:     localTime,
			Description: "time zone of the window for reboots, such as Europe/Berlin",
		},
		{
			Name:        nameEndpoint,
			Flag:        "endpoint",
			Variable:    "LOCKSMITHD_ENDPOINT",
			CLIVariable: "LOCKSMITHCTL_ENDPOINT",
			Default:     "http://127.0.0.1:2379",
			Description: "etcd endpoints, separated by commas; may be given several times",
			List:        true,
		},
		{
			Name:        nameGroup,
			Flag:        "group",
			Variable:    "LOCKSMITHD_GROUP",
			CLIVariable: "LOCKSMITHCTL_GROUP",
			Description: "group of hosts that share a lock",
		},
		{
			Name:        nameCAFile,
			Flag:        "etcd-cafile",
			Variable:    "LOCKSMITHD_ETCD_CAFILE",
			CLIVariable: "LOCKSMITHCTL_ETCD_CAFILE",
			Description: "file with the certificate authorities that etcd's certificate is checked against",
		},
		{
			Name:        nameCertFile,
			Flag:        "etcd-certfile",
			Variable:    "LOCKSMITHD_ETCD_CERTFILE",
			CLIVariable: "LOCKSMITHCTL_ETCD_CERTFILE",
			Description: "file with the client certificate for etcd",
		},
		{
			Name:        nameKeyFile,
			Flag:        "etcd-keyfile",
			Variable:    "LOCKSMITHD_ETCD_KEYFILE",
			CLIVariable: "LOCKSMITHCTL_ETCD_KEYFILE",
			Credential:  "locksmithd.etcd-key",
			Description: "file with the key of the client certificate",
		},
		{
			Name:        nameUsername,
			Flag:        "etcd-username",
			Variable:    "LOCKSMITHD_ETCD_USERNAME",
			CLIVariable: "LOCKSMITHCTL_ETCD_USERNAME",
			Description: "user name for etcd",
		},
		{
			Name:        namePassword,
			Flag:        "etcd-password",
			Variable:    "LOCKSMITHD_ETCD_PASSWORD",
			CLIVariable: "LOCKSMITHCTL_ETCD_PASSWORD",
			Description: "password for etcd; every user of the host can see it in a flag, so a file is better",
			Secret:      true,
		},
		{
			Name:        namePasswordFile,
			Flag:        "etcd-password-file",
			Variable:    "LOCKSMITHD_ETCD_PASSWORD_FILE",
			CLIVariable: "LOCKSMITHCTL_ETCD_PASSWORD_FILE",
			Credential:  "locksmithd.etcd-password",
			Description: "file with the password for etcd",
		},
		{
			Name:        nameMax,
			Variable:    "LOCKSMITHD_MAX",
			Default:     "1",
			Description: "number of slots of a lock that is created",
		},
		{
			Name:        nameLockTTL,
			Variable:    "LOCKSMITHD_LOCK_TTL",
			Description: "how long this host may keep its slot before hosts that wait take it away, such as 30m",
		},
		{
			Name:        nameLoginDelay,
			Variable:    "LOCKSMITHD_LOGIN_DELAY",
			Default:     "5m",
			Description: "how long users who are logged in have from being told to the reboot",
		},
		{
			Name:        nameLoginRetry,
			Variable:    "LOCKSMITHD_LOGIN_RETRY",
			Default:     "1h",
			Description: "how long a user who cancels the reboot puts it off",
		},
		{
			Name:        nameMaxPostpone,
			Variable:    "LOCKSMITHD_MAX_POSTPONE",
			Default:     "0",
			Description: "how long users and inhibitors can postpone a reboot in all, such as 24h; 0 for as long as they like",
		},
		{
			Name:        nameDebug,
			Flag:        "debug",
			Variable:    "LOCKSMITHD_DEBUG",
			CLIVariable: "LOCKSMITHCTL_DEBUG",
			Default:     "false",
			Description: "print debug output",
			Switch:      true,
		},
		{
			Name:        nameTriggerGroups,
			Variable:    "LOCKSMITHD_TRIGGER_GROUPS",
			Default:     "wheel sudo",
			Description: "groups of users who may announce a reboot, besides root",
		},
	}
}

// Kind tells the kinds of an Origin apart.
type Kind string

// The places a setting can come from, strongest first.
const (
	FromFlag        Kind = "flag"
	FromEnvironment Kind = "environment"
	FromUnit        Kind = "unit"
	FromFile        Kind = "file"
	FromCredential  Kind = "credential"
	FromDefault     Kind = "default"
)

// Origin is where the value of a setting comes from.
type Origin struct {
	Kind Kind
	// Name is the flag, with its dash, the variable, or the credential. With FromDefault it is
	// empty, unless the default is in force because of an empty value; then
	// Name, File and Line are those of that value.
	Name string
	// File and Line (from 1) are empty unless the value comes from a file. With FromUnit, File
	// says which of the unit's files it is, and there is no Line.
	File string
	Line int
}

// String returns the place as one text: "flag -group", "environment
// LOCKSMITHD_GROUP", "drop-in 10-group.conf", "/etc/flatcar/update.conf:3", "credential
// locksmithd.etcd-key" or "default".
func (o Origin) String() string {
	switch {
	case o.Kind == FromFile, o.Kind == FromUnit:
		return o.place()
	case o.Kind == FromDefault && o.Name == "":
		return "default"
	case o.Kind == FromDefault:
		return fmt.Sprintf("default, because %s is empty (%s)", o.Name, o.place())
	}
	return string(o.Kind) + " " + o.Name
}

// place returns the place without the name.
func (o Origin) place() string {
	switch {
	case o.File != "" && o.Line == 0:
		return o.File
	case o.File != "":
		return fmt.Sprintf("%s:%d", o.File, o.Line)
	case strings.HasPrefix(o.Name, "-"):
		return "command line"
	case o.Kind == FromCredential:
		return string(FromCredential)
	}
	return "environment"
}

// Setting is one effective setting.
type Setting struct {
	// Name is that of the setting's Definition.
	Name string
	// Value is the text in force. Where it is a secret it only tells whether
	// there is one.
	Value  string
	Origin Origin
}

// hidden is shown instead of a secret.
const hidden = "(hidden)"

// resolved is a setting whose value has been found but not yet looked at.
type resolved struct {
	Definition
	value  string
	origin Origin
	// withheld is where the daemon has a secret that locksmithctl does not take, or empty.
	withheld string
}

// maxShown bounds, in bytes, how much of a wrong value an error repeats.
const maxShown = 100

// refuse returns an error that says what is wrong with the setting, and first
// which one it is, its value and where that comes from.
func (r resolved) refuse(format string, args ...any) error {
	return fmt.Errorf("%s: %w", r.subject(), fmt.Errorf(format, args...))
}

// subject names the setting: `REBOOT_STRATEGY="on" (/etc/flatcar/update.conf:3)`.
func (r resolved) subject() string {
	name := r.origin.Name
	if name == "" {
		name = r.Variable
	}
	if shown := r.shown(); shown == hidden {
		name += "=" + hidden
	} else {
		if len(shown) > maxShown {
			shown = shown[:maxShown] + "..."
		}
		name += fmt.Sprintf("=%q", shown)
	}
	return fmt.Sprintf("%s (%s)", name, r.origin.place())
}

// shown returns the value as it may be shown.
func (r resolved) shown() string {
	// What stands before an "@" in a URL may be a password. No right endpoint has one.
	if r.value != "" && (r.Secret || r.Name == nameEndpoint && strings.Contains(r.value, "@")) {
		return hidden
	}
	return r.value
}

// editDistance returns how many insertions, deletions and changes of a byte make b
// of a.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
