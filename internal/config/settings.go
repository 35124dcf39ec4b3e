package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/locksmithd/locksmith/internal/hooks"
	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/internal/zone"
	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/lock/etcd"
)

// Setting is one effective setting.
type Setting struct {
	Name   string // that of the setting's Definition
	Value  string // the text in force; of a secret it only says whether there is one
	Origin Origin
}

// settings returns the inputs as they may be shown, in the order of Definitions.
func (in inputs) settings() (settings []Setting) {
	for _, d := range definitions {
		settings = append(settings, Setting{Name: d.Name, Value: in[d.Name].shown(), Origin: in[d.Name].origin})
	}
	return settings
}

// parser makes a Config of inputs.
type parser struct {
	*Config
	inputs     inputs
	options    Options
	windowZone *zone.Zone
	blackout   []days
	hooked     map[hooks.Phase]bool // something is hooked in; nil without PartHooks
}

// parse sets the fields of c from the settings that are checked, and says what is wrong with them.
func (c *Config) parse(in inputs, o Options) error {
	var errs []error
	for _, f := range o.Flags {
		if !slices.ContainsFunc(definitions, func(d Definition) bool { return d.Flag && d.Name == f.Name }) {
			errs = append(errs, fmt.Errorf("-%s is not a flag for a setting", f.Name))
		}
	}
	switch {
	case in.fleetLock(o.Program):
		if o.Check&PartEtcd != 0 {
			o.Check |= partFleetLock
		}
		o.Check &^= PartEtcd | PartLock
	case o.Program == Daemon && in[nameStrategy].value != string(StrategyEtcdLock):
		o.Check &^= PartEtcd | PartLock
	}
	c.Max, c.OwnEndpoint = 1, in.ownEndpoint(o.Program)
	p := &parser{Config: c, inputs: in, options: o}
	for _, d := range definitions {
		if o.Check&d.Part != 0 && d.parse != nil {
			errs = append(errs, d.parse(p, in[d.Name]))
		}
	}
	for _, r := range rules {
		if o.Check&r.part != 0 {
			errs = append(errs, r.check(p))
		}
	}
	return errors.Join(errs...)
}

func parseStrategy(p *parser, in input) error {
	p.StrategySet = in.origin.Kind != FromDefault && in.origin.File != filepath.Join(p.options.Root, packageFile)
	switch s := Strategy(in.value); s {
	case StrategyEtcdLock, StrategyFleetLock, StrategyReboot, StrategyOff:
		p.Strategy = s
		return nil
	}
	return in.refuse("it is not a strategy: write %s, %s, %s or %s", StrategyEtcdLock, StrategyFleetLock, StrategyReboot, StrategyOff)
}

func parseRebootMode(p *parser, in input) error {
	switch m := policy.Mode(in.value); m {
	case policy.SoftReboot, policy.Kexec, policy.Auto:
		p.RebootMode = m
		return nil
	case "reboot":
		p.RebootMode = policy.FullReboot
		return nil
	}
	return in.refuse("it is not a kind of reboot: write reboot, %s, %s or %s", policy.SoftReboot, policy.Kexec, policy.Auto)
}

func parseDebug(p *parser, in input) (err error) {
	p.Debug, err = in.boolean()
	return err
}

func parseLogFormat(p *parser, in input) error {
	switch f := LogFormat(in.value); f {
	case LogText, LogJSON:
		p.LogFormat = f
		return nil
	}
	return in.refuse("it is not a format: write %s or %s", LogText, LogJSON)
}

func parseGroup(p *parser, in input) error {
	p.Group = in.value
	if err := lock.ValidateGroup(in.value); err != nil {
		return in.refuse("%w", err)
	}
	return nil
}

// parseEndpoints leaves out the white space and the empty items that people write, so that equal lists are equal
// texts. A rule checks the endpoints, as it does all options for etcd.
func parseEndpoints(p *parser, in input) error {
	var endpoints []string
	for item := range strings.SplitSeq(in.value, ",") {
		if item = strings.TrimSpace(item); item != "" {
			endpoints = append(endpoints, item)
		}
	}
	p.Etcd.Set(etcd.OptionEndpoint, strings.Join(endpoints, ","), in.called())
	p.Etcd.DefaultEndpoint = in.origin.Kind == FromDefault
	return nil
}

func parseMax(p *parser, in input) error {
	n, err := strconv.ParseUint(in.value, 10, 31) // takes no sign
	if err != nil {
		return in.refuse("it is not a number of slots: write a whole number from 0, with which nobody reboots, to 2147483647")
	}
	p.Max = int(n)
	if in.origin.Kind != FromDefault {
		p.MaxOrigin = &in.origin
	}
	return nil
}

// maxDuration is far more than anybody needs, and less than the limit of etcd.
const maxDuration = 365 * 24 * time.Hour

func parseLockTTL(p *parser, in input) error {
	if in.value == "" {
		return nil
	}
	d, err := time.ParseDuration(in.value)
	if err != nil || d < lock.MinTTL || d > maxDuration {
		return in.refuse("it is not a time-to-live: write a duration from 1m to 8760h, such as 30m, or leave it empty for none")
	}
	p.LockTTL = d
	return nil
}

// duration returns the parser of a duration that is at least least, which right says in words.
func duration(to func(*Config) *time.Duration, least time.Duration, right string) func(*parser, input) error {
	return func(p *parser, in input) error {
		d, err := time.ParseDuration(in.value)
		if err != nil || d < least || d > maxDuration {
			return in.refuse("it is not a duration that is allowed here: write %s, and 8760h at most", right)
		}
		*to(p.Config) = d
		return nil
	}
}

func parseBootComplete(p *parser, in input) (err error) {
	p.BootComplete, err = in.boolean()
	return err
}

func parseInventory(p *parser, in input) (err error) {
	p.Inventory, err = in.boolean()
	return err
}

// metricsSuffix ends the names of the files that node_exporter reads.
const metricsSuffix = ".prom"

// parseMetricsFile takes no other file than one of node_exporter: it is replaced, and removed.
func parseMetricsFile(p *parser, in input) error {
	switch path := filepath.Clean(in.value); {
	case in.value == "":
	case !filepath.IsAbs(path) || !strings.HasSuffix(in.value, metricsSuffix) || filepath.Base(path) == metricsSuffix:
		return in.refuse("it is not the path of a file that node_exporter reads: write one that begins with a slash and ends in %s, such as /run/locksmith/locksmith%[1]s", metricsSuffix)
	default:
		p.MetricsFile = path
	}
	return nil
}

// boolean parses the value of a setting that is true or false.
func (in input) boolean() (bool, error) {
	b, err := strconv.ParseBool(in.value)
	if err != nil {
		return false, in.refuse("it is not a boolean: write true or false")
	}
	return b, nil
}

func parseHealthFailure(p *parser, in input) error {
	switch h := HealthFailure(in.value); h {
	case HealthPause, HealthHold, HealthRelease:
		p.HealthFailure = h
		return nil
	}
	return in.refuse("it does not say what to do: write %s, %s or %s", HealthPause, HealthHold, HealthRelease)
}

func parseMaxAttempts(p *parser, in input) error {
	n, err := strconv.ParseUint(in.value, 10, 31) // takes no sign
	if err != nil || n == 0 {
		return in.refuse("it is not a number of attempts: write a whole number from 1 to 2147483647")
	}
	p.MaxAttempts = int(n)
	return nil
}

// groupName matches the names that useradd(8) and similar programs accept, in any case.
var groupName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*\$?$`)

func parseTriggerGroups(p *parser, in input) error {
	groups := strings.FieldsFunc(in.value, func(c rune) bool { return c == ' ' || c == ',' })
	for _, group := range groups {
		if !groupName.MatchString(group) {
			return in.refuse("%q is not the name of a group: write names of groups, separated by spaces or commas, such as %s", group, in.Default)
		}
	}
	if len(groups) == 0 {
		return in.refuse("it names no group: write at least one, such as root to allow nobody else")
	}
	p.TriggerGroups = groups
	return nil
}
