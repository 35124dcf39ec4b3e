// Package rivals finds what else reboots this host for updates: two reboot managers on one host reboot it behind each
// other's back, and only one of them has the lock.
//
// Nothing of it stays in memory between two searches: the daemon searches when it reads its settings, and then runs for
// months. It looks into files alone, so it finds what is configured and not what runs, and does not guarantee to find
// all.
package rivals

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/locksmithd/locksmith/internal/readfile"
	"github.com/locksmithd/locksmith/internal/safetext"
	"github.com/locksmithd/locksmith/systemd"
)

// maxFile bounds what is read of a file, in bytes.
const maxFile = 256 << 10

// Find returns a sentence for each that is found below root, which stands for "/". The sentence says what it is, where
// it is configured, and how it is turned off.
func Find(root string) (found []string) {
	h := host(root)
	for _, find := range []func(host) string{
		unattendedUpgrades, sysupdate, rebootmgr, zincati, dnfAutomatic, kubernetes,
	} {
		if s := find(h); s != "" {
			found = append(found, s)
		}
	}
	return found
}

// host is the folder that stands for "/".
type host string

func (h host) path(name string) string { return filepath.Join(string(h), name) }

func (h host) has(name string) bool {
	_, err := os.Stat(h.path(name))
	return err == nil
}

// text returns the content of a file, "" if it cannot be read.
func (h host) text(path string) string {
	data, err := readfile.Read(path, maxFile)
	if err != nil {
		return ""
	}
	return string(data)
}

// fragments returns the paths of the files in folders that match a pattern, in the order in which they count: a file in
// a later folder replaces one of the same name in an earlier one.
func (h host) fragments(pattern string, folders ...string) (paths []string) {
	names := map[string]string{}
	for _, folder := range folders {
		matches, _ := filepath.Glob(filepath.Join(h.path(folder), pattern)) // the pattern is right
		for _, path := range matches {
			names[filepath.Base(path)] = path
		}
	}
	for _, path := range names {
		paths = append(paths, path)
	}
	slices.SortFunc(paths, func(a, b string) int { return strings.Compare(filepath.Base(a), filepath.Base(b)) })
	return paths
}

// enabled returns the link that starts a unit at boot, "" if there is none or the unit is masked.
func (h host) enabled(unit string) string { return systemd.EnabledBy(string(h), unit) }

// unattendedUpgrades reboots at the end of its run, see apt.conf.d/50unattended-upgrades.
func unattendedUpgrades(h host) string {
	if !h.has("/usr/bin/unattended-upgrade") {
		return ""
	}
	comment := regexp.MustCompile(`(?s)/\*.*?\*/|(?m:(?://|#).*$)`)
	// Alone, or in the braces of Unattended-Upgrade. Automatic-Reboot-Time and others are longer words.
	reboot := regexp.MustCompile(`(?i)\bAutomatic-Reboot\s+"?([A-Za-z0-9]+)"?\s*;`)
	last, where := "", ""
	for _, path := range append(h.fragments("*", "/etc/apt/apt.conf.d"), h.path("/etc/apt/apt.conf")) {
		for _, m := range reboot.FindAllStringSubmatch(comment.ReplaceAllString(h.text(path), ""), -1) {
			last, where = m[1], path
		}
	}
	// Of apt.conf(5), besides those that are false.
	if !slices.Contains([]string{"yes", "true", "with", "on", "enable", "1"}, strings.ToLower(last)) {
		return ""
	}
	return fmt.Sprintf(`unattended-upgrades reboots this host by itself, without the lock: set Unattended-Upgrade::Automatic-Reboot "false" in %s`, where)
}

// sysupdate reboots into what systemd-sysupdate has installed, see systemd-sysupdate(8).
func sysupdate(h host) string {
	return h.byUnit("systemd-sysupdate-reboot.timer", "systemd-sysupdate")
}

// byUnit says that a unit which is enabled reboots the host.
func (h host) byUnit(unit, name string) string {
	link := h.enabled(unit)
	if link == "" {
		return ""
	}
	return fmt.Sprintf(`%s reboots this host by itself, without the lock: %s is enabled (%s): "systemctl disable --now %s" ends that`, name, unit, link, unit)
}

// rebootmgr is that of SUSE, whose strategy is in rebootmgr.conf, see rebootmgr.conf(5).
func rebootmgr(h host) string {
	conf := slices.Concat(h.fragments("rebootmgr.conf", "/usr/share/rebootmgr", "/usr/etc", "/etc", "/etc/rebootmgr"),
		h.fragments("*.conf", "/usr/share/rebootmgr/rebootmgr.conf.d", "/etc/rebootmgr/rebootmgr.conf.d"))
	off := regexp.MustCompile(`(?m)^\s*strategy\s*=\s*off\s*$`)
	if slices.ContainsFunc(conf, func(path string) bool { return off.MatchString(h.text(path)) }) {
		return ""
	}
	return h.byUnit("rebootmgr.service", "rebootmgr")
}

// zincati updates and reboots Fedora CoreOS. Only with the strategy fleet_lock does it ask somebody.
func zincati(h host) string {
	if h.enabled("zincati.service") == "" {
		return ""
	}
	said := regexp.MustCompile(`(?m)^\s*strategy\s*=\s*["']([a-z_]+)["']`)
	disabled := regexp.MustCompile(`(?m)^\s*enabled\s*=\s*false\b`)
	strategy, quiet, where := "immediate", false, "zincati's default"
	for _, path := range h.fragments("*.toml", "/usr/lib/zincati/config.d", "/run/zincati/config.d", "/etc/zincati/config.d") {
		updates := section(h.text(path), "updates")
		if m := said.FindStringSubmatch(updates); m != nil {
			strategy, where = m[1], path
		}
		quiet = quiet || disabled.MatchString(updates)
	}
	if quiet || strategy == "fleet_lock" {
		return ""
	}
	return fmt.Sprintf("zincati reboots this host by itself, without the lock: its strategy is %s (%s): mask zincati.service, or give it the strategy fleet_lock", safetext.Clean(strategy), where)
}

// section returns a section of a file in TOML, without those in it.
func section(text, name string) string {
	header := regexp.MustCompile(`(?m)^\s*\[([^\]]+)\]`)
	for _, m := range header.FindAllStringSubmatchIndex(text, -1) {
		if strings.TrimSpace(text[m[2]:m[3]]) == name {
			rest := text[m[1]:]
			if next := header.FindStringIndex(rest); next != nil {
				return rest[:next[0]]
			}
			return rest
		}
	}
	return ""
}

// dnfAutomatic reboots after its updates if automatic.conf says so.
func dnfAutomatic(h host) string {
	reboot := regexp.MustCompile(`(?m)^\s*reboot\s*=\s*(when-changed|when-needed)\s*$`)
	for _, unit := range []string{"dnf-automatic.timer", "dnf-automatic-install.timer", "dnf5-automatic.timer"} {
		if h.enabled(unit) == "" {
			continue
		}
		for _, path := range []string{"/etc/dnf/automatic.conf", "/etc/dnf/dnf5-plugins/automatic.conf"} {
			if m := reboot.FindStringSubmatch(h.text(h.path(path))); m != nil {
				return fmt.Sprintf("dnf-automatic reboots this host by itself, without the lock: write reboot = never instead of %s into %s", m[1], h.path(path))
			}
		}
	}
	return ""
}

// kubernetes has reboot managers that run as pods. The kubelet keeps their logs on the node, in a folder for each pod
// that is named by its namespace and name.
func kubernetes(h host) string {
	for _, manager := range []struct{ pods, name string }{
		{"*_kured-*", "kured"}, {"*_flatcar-linux-update-agent-*", "the Flatcar Linux Update Operator"},
	} {
		if pods, _ := filepath.Glob(filepath.Join(h.path("/var/log/pods"), manager.pods)); len(pods) > 0 { // the pattern is right
			return fmt.Sprintf("%s reboots the nodes of this Kubernetes cluster, without the lock: a pod of it is on this host (%s): keep it from this node",
				manager.name, safetext.Clean(pods[0]))
		}
	}
	return ""
}
