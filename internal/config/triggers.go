package config

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/internal/rivals"
	"github.com/locksmithd/locksmith/internal/sentinel"
)

func parseSentinel(p *parser, in input) error {
	if in.value == "" {
		return nil
	}
	if !filepath.IsAbs(in.value) || strings.HasSuffix(in.value, "/") {
		return in.refuse("it is not the path of a file: write one that begins with a slash, such as /run/reboot-required, or leave it empty for none")
	}
	p.Sentinel = filepath.Clean(in.value)
	return nil
}

func parseSentinelCommand(p *parser, in input) error {
	p.SentinelCommand = strings.TrimSpace(in.value)
	return nil
}

// warnOfSentinel warns of a file that nobody will ever create.
func warnOfSentinel(p *parser) error {
	if p.Sentinel == "" || sentinel.Written(p.options.Root, p.Sentinel) {
		return nil
	}
	install := "unattended-upgrades, on Ubuntu also update-notifier-common"
	if strings.TrimPrefix(p.Sentinel, "/var") == sentinel.Needed {
		install = "zypp-boot-plugin"
	}
	p.warn("%s: as far as locksmith knows, nothing on this host creates this file, and then packages never cause a reboot: install %s, or name another file",
		p.inputs[nameSentinel].subject(), install)
	return nil
}

// warnOfInverseCommand warns of a command whose exit statuses mean the opposite.
func warnOfInverseCommand(p *parser) error {
	const ready = "needs-restarting"
	if c := p.SentinelCommand; c != ready && strings.Contains(c, ready) && !strings.Contains(c, "!") {
		p.warn("%s: %s exits with 0 if no reboot is needed, and this host would understand the opposite: write %[2]s alone, which is read correctly",
			p.inputs[nameSentinelCommand].subject(), ready)
	}
	return nil
}

// warnOfMode warns of a mode that this host's triggers make no use of.
func warnOfMode(p *parser) error {
	mode := p.inputs[nameRebootMode]
	written := func(path string) bool { return sentinel.Written(p.options.Root, path) }
	_, err := os.Stat(filepath.Join(p.options.Root, updateEngine))
	command := strings.TrimSpace(p.inputs[nameSentinelCommand].value)
	switch {
	case p.RebootMode == policy.FullReboot:
	case err == nil:
		p.warn("%s: the updates of update_engine (%s) get a full reboot, because nothing else boots them: write reboot", mode.subject(), updateEngine)
	case p.RebootMode == policy.Auto && !written(sentinel.Needed):
		p.warn("%s: as far as locksmith knows, nothing on this host writes %s, and then each reboot is a full one: write reboot, soft-reboot or kexec", mode.subject(), sentinel.Needed)
	case p.RebootMode == policy.SoftReboot && slices.Contains([]string{"needs-restarting", "needrestart"}, command):
		p.warn("%s: %s (%s) still says after a soft reboot that a reboot is needed, so a full one follows each time: write reboot",
			mode.subject(), command, p.inputs[nameSentinelCommand].Variable)
	}
	return nil
}

// updateEngine is there on a host that has update_engine.
const updateEngine = "/usr/sbin/update_engine"

// warnOfRivals warns of what else reboots the host.
func warnOfRivals(p *parser) error {
	if p.Strategy == StrategyOff {
		return nil
	}
	for _, rival := range rivals.Find(p.options.Root) {
		p.warn("%s", rival)
	}
	return nil
}

// Trigger is who or what can say that a reboot is needed.
type Trigger struct {
	Name string
	From string // what makes it one
}

// Triggers returns what is in force.
func (c *Config) Triggers() []Trigger {
	all := []Trigger{{"update_engine", "where it is on the system bus"}}
	if c.Sentinel != "" {
		all = append(all, Trigger{c.Sentinel, "while the file is there"})
	}
	if c.SentinelCommand != "" {
		all = append(all, Trigger{c.SentinelCommand, fmt.Sprintf("while its last answer is yes, asked every %v", c.SentinelPeriod)})
	}
	return append(all, Trigger{"locksmithctl send-need-reboot", fmt.Sprintf("by root, and members of %s", strings.Join(c.TriggerGroups, ", "))})
}
