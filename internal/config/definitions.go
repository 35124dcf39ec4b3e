package config

import (
	"slices"
	"strings"
	"time"

	"github.com/locksmithd/locksmith/internal/fleetclient"
	"github.com/locksmithd/locksmith/lock/etcd"
)

// Definition describes one setting: where it may come from, what needs it, and how it is parsed.
type Definition struct {
	Name        string // among the effective settings, and of the flag, without a dash
	Flag        bool   // a flag can set it
	Variable    string // in update.conf and in the daemon's environment
	Prefixed    string // the same with our prefix, which counts first, for a Variable without it
	Fallback    string // an older name that counts where Variable is unset or empty
	Credential  string // the systemd credential whose file counts where nothing else is set, or empty
	Default     string // the value of a setting that is unset or empty
	Description string // a line for usage texts
	Switch      bool   // the flag may stand without a value, which means "true"
	List        bool   // a flag given several times adds up; of others the last counts
	Secret      bool   // the value must not be shown; of a URL only scheme and host
	URL         bool   // what stands before an "@" may be a password, and must not be shown
	Part        Part   // what needs the setting
	// parse sets fields of the Config, or says what is wrong with the value. It is nil for a setting that a rule
	// parses together with another one.
	parse func(*parser, input) error
}

// variables returns the names in the files, the stronger ones first.
func (d Definition) variables() []string {
	return slices.DeleteFunc([]string{d.Prefixed, d.Variable, d.Fallback}, func(name string) bool { return name == "" })
}

// CLIVariable returns what locksmithctl reads in its environment: a variable of its own for a setting with a flag.
func (d Definition) CLIVariable() string { return d.inEnvironment(CLI, d.Variable) }

// inEnvironment returns what a variable is called in the environment of a program.
func (d Definition) inEnvironment(program Program, name string) string {
	if program == CLI && d.Flag {
		return strings.Replace(name, "LOCKSMITHD_", "LOCKSMITHCTL_", 1)
	}
	return name
}

// Names of settings that rules ask for. Those for etcd are the names of its options, see inputs.of.
const (
	nameStrategy     = "strategy"
	nameRebootMode   = "reboot-mode"
	nameWindowStart  = "window-start"
	nameWindowLength = "window-length"
	nameMax          = "max"
	nameLockTTL      = "lock-ttl"
	nameLoginDelay   = "login-delay"
	nameLogFormat    = "log-format"

	nameBeforeRebootTimeout = "before-reboot-timeout"
	nameHealthTimeout       = "health-timeout"
	nameHealthFailure       = "health-failure"
	nameReleaseDelay        = "release-delay"
	namePrometheusURL       = "prometheus-url"
	nameQuery               = "prometheus-query"
	nameAlertmanagerURL     = "alertmanager-url"
	nameAlertIgnore         = "alert-ignore"
	nameAlertCAFile         = "alert-cafile"
	nameAlertTokenFile      = "alert-token-file"
	nameSentinel            = "reboot-sentinel"
	nameSentinelCommand     = "reboot-sentinel-command"
	nameNotifyURL           = "notify-url"
)

// Names of the settings for a FleetLock server.
const (
	nameFleetLockURL          = "fleetlock-url"
	nameFleetLockCAFile       = "fleetlock-cafile"
	nameFleetLockCertFile     = "fleetlock-certfile"
	nameFleetLockKeyFile      = "fleetlock-keyfile"
	nameFleetLockUsername     = "fleetlock-username"
	nameFleetLockPasswordFile = "fleetlock-password-file"
	nameFleetLockID           = "fleetlock-id"
)

// localTime is the time zone that stands for the host's own.
const localTime = "Local"

// etcdSetting completes the definition of an option for etcd, which a rule checks.
func etcdSetting(o etcd.Option, d Definition) Definition {
	d.Name, d.Flag, d.Part = o.String(), true, PartEtcd
	d.parse = func(p *parser, in input) error {
		p.Etcd.Set(o, in.value, in.called())
		return nil
	}
	return d
}

// Definitions returns every setting, in the order in which they are shown. The caller owns the slice.
func Definitions() []Definition { return slices.Clone(definitions) }

var definitions = []Definition{
	{
		Name:        nameStrategy,
		Variable:    "REBOOT_STRATEGY",
		Prefixed:    "LOCKSMITHD_REBOOT_STRATEGY",
		Default:     string(StrategyReboot),
		Description: "how to reboot after an update: etcd-lock, fleet-lock, reboot or off",
		Part:        PartStrategy,
		parse:       parseStrategy,
	},
	{
		Name:        nameRebootMode,
		Variable:    "LOCKSMITHD_REBOOT_MODE",
		Default:     "reboot",
		Description: "kind of reboot: reboot, soft-reboot, kexec or auto",
		Part:        PartStrategy,
		parse:       parseRebootMode,
	},
	{
		Name:        nameWindowStart,
		Variable:    "LOCKSMITHD_REBOOT_WINDOW_START",
		Fallback:    "REBOOT_WINDOW_START",
		Description: "when the window for reboots opens, such as Thu 04:00",
		Part:        PartWindow,
	},
	{
		Name:        nameWindowLength,
		Variable:    "LOCKSMITHD_REBOOT_WINDOW_LENGTH",
		Fallback:    "REBOOT_WINDOW_LENGTH",
		Description: "how long the window for reboots stays open, such as 1h30m",
		Part:        PartWindow,
	},
	{
		Name:        "window-timezone",
		Variable:    "LOCKSMITHD_REBOOT_WINDOW_TIMEZONE",
		Default:     localTime,
		Description: "time zone of the window for reboots, such as Europe/Berlin",
		Part:        PartWindow,
		parse:       parseWindowZone,
	},
	{
		Name:        "blackout",
		Variable:    "LOCKSMITHD_BLACKOUT",
		Description: "days without reboots, in the window's time zone, such as " + blackoutExample,
		Part:        PartWindow,
		parse:       parseBlackout,
	},
	{
		Name:        etcd.OptionEndpoint.String(),
		Flag:        true,
		Variable:    "LOCKSMITHD_ENDPOINT",
		Default:     "http://127.0.0.1:2379",
		Description: "etcd endpoints, separated by commas; may be given several times",
		List:        true,
		URL:         true,
		Part:        PartEtcd,
		parse:       parseEndpoints,
	},
	{
		Name:        "group",
		Flag:        true,
		Variable:    "LOCKSMITHD_GROUP",
		Description: "group of hosts that share a lock",
		Part:        PartEtcd | partFleetLock,
		parse:       parseGroup,
	},
	etcdSetting(etcd.OptionCAFile, Definition{
		Variable:    "LOCKSMITHD_ETCD_CAFILE",
		Description: "file with the certificate authorities that etcd's certificate is checked against",
	}),
	etcdSetting(etcd.OptionCertFile, Definition{
		Variable:    "LOCKSMITHD_ETCD_CERTFILE",
		Description: "file with the client certificate for etcd",
	}),
	etcdSetting(etcd.OptionKeyFile, Definition{
		Variable:    "LOCKSMITHD_ETCD_KEYFILE",
		Credential:  "locksmithd.etcd-key",
		Description: "file with the key of the client certificate",
	}),
	etcdSetting(etcd.OptionUsername, Definition{
		Variable:    "LOCKSMITHD_ETCD_USERNAME",
		Description: "user name for etcd",
	}),
	etcdSetting(etcd.OptionPassword, Definition{
		Variable:    "LOCKSMITHD_ETCD_PASSWORD",
		Description: "password for etcd; every user of the host can see it in a flag, so a file is better",
		Secret:      true,
	}),
	etcdSetting(etcd.OptionPasswordFile, Definition{
		Variable:    "LOCKSMITHD_ETCD_PASSWORD_FILE",
		Credential:  "locksmithd.etcd-password",
		Description: "file with the password for etcd",
	}),
	{
		Name:        nameFleetLockURL,
		Variable:    string(fleetclient.OptionURL),
		Description: "base URL of the FleetLock server that gives the slots under fleet-lock, such as https://reboots.example:8443",
		URL:         true,
		Part:        partFleetLock,
		parse:       parseFleetLockURL,
	},
	{
		Name:        nameFleetLockCAFile,
		Variable:    string(fleetclient.OptionCAFile),
		Description: "file with the certificate authorities that the FleetLock server's certificate is checked against",
		Part:        partFleetLock,
		parse:       fleetLockText(func(c *fleetclient.Config) *string { return &c.CAFile }),
	},
	{
		Name:        nameFleetLockCertFile,
		Variable:    string(fleetclient.OptionCertFile),
		Description: "file with the client certificate for the FleetLock server",
		Part:        partFleetLock,
		parse:       fleetLockText(func(c *fleetclient.Config) *string { return &c.CertFile }),
	},
	{
		Name:        nameFleetLockKeyFile,
		Variable:    string(fleetclient.OptionKeyFile),
		Credential:  "locksmithd.fleetlock-key",
		Description: "file with the key of the client certificate for the FleetLock server",
		Part:        partFleetLock,
		parse:       fleetLockText(func(c *fleetclient.Config) *string { return &c.KeyFile }),
	},
	{
		Name:        nameFleetLockUsername,
		Variable:    string(fleetclient.OptionUsername),
		Description: "user name for the FleetLock server",
		Part:        partFleetLock,
		parse:       fleetLockText(func(c *fleetclient.Config) *string { return &c.Username }),
	},
	{
		Name:        nameFleetLockPasswordFile,
		Variable:    string(fleetclient.OptionPasswordFile),
		Credential:  "locksmithd.fleetlock-password",
		Description: "file with the password for the FleetLock server",
		Part:        partFleetLock,
		parse:       fleetLockText(func(c *fleetclient.Config) *string { return &c.PasswordFile }),
	},
	{
		Name:        nameFleetLockID,
		Variable:    "LOCKSMITHD_FLEETLOCK_ID",
		Default:     fleetLockAppID,
		Description: "id of this host at the FleetLock server: app-specific, which Zincati also derives from the machine id, or machine-id",
		Part:        partFleetLock,
		parse:       parseFleetLockID,
	},
	{
		Name:        nameMax,
		Variable:    "LOCKSMITHD_MAX",
		Default:     "1",
		Description: "number of slots of a new lock",
		Part:        PartLock,
		parse:       parseMax,
	},
	{
		Name:        nameLockTTL,
		Variable:    "LOCKSMITHD_LOCK_TTL",
		Description: "how long this host may keep its slot before hosts that wait take it away, such as 30m",
		Part:        PartLock,
		parse:       parseLockTTL,
	},
	{
		Name:        nameLoginDelay,
		Variable:    "LOCKSMITHD_LOGIN_DELAY",
		Default:     "5m",
		Description: "how long before the reboot logged-in users are told",
		Part:        PartLogin,
		parse:       duration(func(c *Config) *time.Duration { return &c.LoginDelay }, 0, "0 or more, such as 5m"),
	},
	{
		Name:        "login-retry",
		Variable:    "LOCKSMITHD_LOGIN_RETRY",
		Default:     "1h",
		Description: "how long a user who cancels the reboot puts it off",
		Part:        PartLogin,
		parse:       duration(func(c *Config) *time.Duration { return &c.LoginRetry }, time.Minute, "1m or more, such as 1h"),
	},
	{
		Name:        "max-postpone",
		Variable:    "LOCKSMITHD_MAX_POSTPONE",
		Default:     "0",
		Description: "how long users and inhibitors can postpone a reboot in all, such as 24h; 0 for as long as they like",
		Part:        PartLogin,
		parse:       duration(func(c *Config) *time.Duration { return &c.MaxPostpone }, 0, "more than 0, such as 24h, or 0 for as long as they like"),
	},
	{
		Name:        nameBeforeRebootTimeout,
		Variable:    "LOCKSMITHD_BEFORE_REBOOT_TIMEOUT",
		Default:     "10m",
		Description: "how long the hooks before a reboot may take",
		Part:        PartHooks,
		parse:       duration(func(c *Config) *time.Duration { return &c.BeforeRebootTimeout }, time.Second, "1s or more, such as 10m"),
	},
	{
		Name:        "boot-complete",
		Variable:    "LOCKSMITHD_BOOT_COMPLETE",
		Default:     "true",
		Description: "whether boot-complete.target has to be reached before a host counts as well",
		Part:        PartHooks,
		parse:       parseBootComplete,
	},
	{
		Name:        nameHealthTimeout,
		Variable:    "LOCKSMITHD_HEALTH_TIMEOUT",
		Default:     "10m",
		Description: "how long after its reboot a host may take to become well",
		Part:        PartHooks,
		parse:       duration(func(c *Config) *time.Duration { return &c.HealthTimeout }, time.Second, "1s or more, such as 10m"),
	},
	{
		Name:        nameHealthFailure,
		Variable:    "LOCKSMITHD_HEALTH_FAILURE",
		Default:     string(HealthPause),
		Description: "what a host that is not well after its reboot does with its slot: pause, hold or release",
		Part:        PartHooks,
		parse:       parseHealthFailure,
	},
	{
		Name:        nameReleaseDelay,
		Variable:    "LOCKSMITHD_RELEASE_DELAY",
		Default:     "0",
		Description: "how long a host that is well again keeps its slot",
		Part:        PartHooks,
		parse:       duration(func(c *Config) *time.Duration { return &c.ReleaseDelay }, 0, "0 or more, such as 5m"),
	},
	{
		Name:        "max-attempts",
		Variable:    "LOCKSMITHD_MAX_ATTEMPTS",
		Default:     "2",
		Description: "how many boots may fail to bring up a version before this host no longer reboots for it",
		Part:        PartGates,
		parse:       parseMaxAttempts,
	},
	{
		Name:        "min-uptime",
		Variable:    "LOCKSMITHD_MIN_UPTIME",
		Default:     "0",
		Description: "how long the host has to be up before it reboots again",
		Part:        PartGates,
		parse:       duration(func(c *Config) *time.Duration { return &c.MinUptime }, 0, "0 or more, such as 1h"),
	},
	{
		Name:        "reboot-jitter",
		Variable:    "LOCKSMITHD_REBOOT_JITTER",
		Default:     "0",
		Description: "longest random delay before this host begins, inside the window",
		Part:        PartGates,
		parse:       duration(func(c *Config) *time.Duration { return &c.RebootJitter }, 0, "0 or more, such as 30m"),
	},
	{
		Name:        namePrometheusURL,
		Variable:    "LOCKSMITHD_PROMETHEUS_URL",
		Description: "URL of a Prometheus whose alerts hold reboots back",
		URL:         true,
		Part:        PartGates,
		parse:       alertURL(func(a *Alerts) *string { return &a.PrometheusURL }),
	},
	{
		Name:        nameQuery,
		Variable:    "LOCKSMITHD_PROMETHEUS_QUERY",
		Default:     `ALERTS{alertstate="firing"}`,
		Description: "query for Prometheus; an answer that is not empty holds reboots back",
		Part:        PartGates,
		parse:       alertText(func(a *Alerts) *string { return &a.Query }),
	},
	{
		Name:        nameAlertmanagerURL,
		Variable:    "LOCKSMITHD_ALERTMANAGER_URL",
		Description: "URL of an Alertmanager whose active alerts hold reboots back, unless they are silenced",
		URL:         true,
		Part:        PartGates,
		parse:       alertURL(func(a *Alerts) *string { return &a.AlertmanagerURL }),
	},
	{
		Name:        nameAlertIgnore,
		Variable:    "LOCKSMITHD_ALERT_IGNORE",
		Description: "regular expression for the names of alerts that do not hold reboots back",
		Part:        PartGates,
		parse:       parseAlertIgnore,
	},
	{
		Name:        nameAlertCAFile,
		Variable:    "LOCKSMITHD_ALERT_CAFILE",
		Description: "file with the certificate authorities for Prometheus and Alertmanager",
		Part:        PartGates,
		parse:       alertText(func(a *Alerts) *string { return &a.CAFile }),
	},
	{
		Name:        nameAlertTokenFile,
		Variable:    "LOCKSMITHD_ALERT_TOKEN_FILE",
		Description: "file with the bearer token for Prometheus and Alertmanager",
		Part:        PartGates,
		parse:       alertText(func(a *Alerts) *string { return &a.TokenFile }),
	},
	{
		Name:        "debug",
		Flag:        true,
		Variable:    "LOCKSMITHD_DEBUG",
		Default:     "false",
		Description: "print debug output",
		Switch:      true,
		Part:        partAll,
		parse:       parseDebug,
	},
	{
		Name:        "inventory",
		Variable:    "LOCKSMITHD_INVENTORY",
		Default:     "true",
		Description: "whether this host keeps a record in etcd of what it does, for locksmithctl hosts",
		Part:        PartReport,
		parse:       parseInventory,
	},
	{
		Name:        nameLogFormat,
		Variable:    "LOCKSMITHD_LOG_FORMAT",
		Default:     string(LogText),
		Description: "how locksmithd logs where there is no journal: text or json",
		Part:        PartReport,
		parse:       parseLogFormat,
	},
	{
		Name:        "metrics-file",
		Variable:    "LOCKSMITHD_METRICS_FILE",
		Description: "file with metrics of this host, for the textfile collector of node_exporter",
		Part:        PartReport,
		parse:       parseMetricsFile,
	},
	{
		Name:        "trigger-groups",
		Variable:    "LOCKSMITHD_TRIGGER_GROUPS",
		Default:     "wheel sudo",
		Description: "groups of users who may announce a reboot, besides root",
		Part:        PartTrigger,
		parse:       parseTriggerGroups,
	},
	{
		Name:        nameSentinel,
		Variable:    "LOCKSMITHD_REBOOT_SENTINEL",
		Description: "file that packages create when a reboot is needed, such as /run/reboot-required",
		Part:        PartSentinel,
		parse:       parseSentinel,
	},
	{
		Name:        nameSentinelCommand,
		Variable:    "LOCKSMITHD_REBOOT_SENTINEL_COMMAND",
		Description: "command that exits with 0 if a reboot is needed, and with 1 if not; or needs-restarting, needrestart or sysupdate",
		Part:        PartSentinel,
		parse:       parseSentinelCommand,
	},
	{
		Name:        "reboot-sentinel-period",
		Variable:    "LOCKSMITHD_REBOOT_SENTINEL_PERIOD",
		Default:     "1h",
		Description: "time from one run of that command to the next",
		Part:        PartSentinel,
		parse:       duration(func(c *Config) *time.Duration { return &c.SentinelPeriod }, time.Minute, "1m or more, such as 1h"),
	},
	{
		Name:        nameNotifyURL,
		Variable:    "LOCKSMITHD_NOTIFY_URL",
		Description: "URL of a web hook that gets notifications about this host, such as one of Slack",
		Secret:      true,
		URL:         true,
		Part:        PartNotify,
		parse:       parseNotifyURL,
	},
	{
		Name:        "notify-events",
		Variable:    "LOCKSMITHD_NOTIFY_EVENTS",
		Description: "events that are sent to the web hook and to the scripts in notify.d; all if it is empty",
		Part:        PartNotify,
		parse:       parseNotifyEvents,
	},
}
