package rivals

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/test/must"
)

// on makes files below a folder; one whose text begins with "-> " is a link.
func on(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		must.Do(t, os.MkdirAll(filepath.Dir(path), 0o755))
		if target, link := strings.CutPrefix(text, "-> "); link {
			must.Do(t, os.Symlink(target, path))
			continue
		}
		must.Do(t, os.WriteFile(path, []byte(text), 0o644))
	}
	return root
}

const (
	upgrade  = "/usr/bin/unattended-upgrade"
	apt      = "/etc/apt/apt.conf.d/"
	wants    = "/etc/systemd/system/multi-user.target.wants/"
	timers   = "/etc/systemd/system/timers.target.wants/"
	toUnit   = "-> /usr/lib/systemd/system/x"
	zincatiD = "/etc/zincati/config.d/"
)

func TestEachRivalIsNamed(t *testing.T) {
	for name, test := range map[string]struct {
		files map[string]string
		want  string // parts, with a space between them; "" if nothing is found
	}{
		"nothing": {nil, ""},
		"unattended-upgrades": {map[string]string{upgrade: "", apt + "50unattended-upgrades": "Unattended-Upgrade::Automatic-Reboot \"true\";\n"},
			"unattended-upgrades 50unattended-upgrades"},
		"in braces":   {map[string]string{upgrade: "", apt + "50x": "Unattended-Upgrade {\n  Automatic-Reboot \"1\";\n};\n"}, "unattended-upgrades 50x"},
		"a later no":  {map[string]string{upgrade: "", apt + "50x": "Unattended-Upgrade::Automatic-Reboot \"true\";", apt + "52x": "Unattended-Upgrade::Automatic-Reboot \"false\";"}, ""},
		"a later yes": {map[string]string{upgrade: "", apt + "50x": "Unattended-Upgrade::Automatic-Reboot \"false\";", apt + "52x": "Unattended-Upgrade::Automatic-Reboot \"true\";"}, "52x"},
		"in apt.conf": {map[string]string{upgrade: "", "/etc/apt/apt.conf": "Unattended-Upgrade::Automatic-Reboot true;"}, "/etc/apt/apt.conf"},
		"a comment": {map[string]string{upgrade: "", apt + "50x": "//Unattended-Upgrade::Automatic-Reboot \"true\";\n# Unattended-Upgrade::Automatic-Reboot \"true\";\n" +
			"/* Unattended-Upgrade::Automatic-Reboot \"true\";\n */\n"}, ""},
		"other options": {map[string]string{upgrade: "", apt + "50x": "Unattended-Upgrade::Automatic-Reboot-WithUsers \"true\";\nUnattended-Upgrade::Automatic-Reboot-Time \"02:00\";\n"}, ""},
		"not installed": {map[string]string{apt + "50x": "Unattended-Upgrade::Automatic-Reboot \"true\";"}, ""},
		"a folder":      {map[string]string{upgrade: "", apt + "50x/y": ""}, ""},

		"sysupdate":          {map[string]string{timers + "systemd-sysupdate-reboot.timer": toUnit}, "systemd-sysupdate-reboot.timer disable"},
		"sysupdate, masked":  {map[string]string{timers + "systemd-sysupdate-reboot.timer": toUnit, "/etc/systemd/system/systemd-sysupdate-reboot.timer": "-> /dev/null"}, ""},
		"rebootmgr":          {map[string]string{wants + "rebootmgr.service": toUnit}, "rebootmgr.service"},
		"rebootmgr, by SUSE": {map[string]string{"/usr/lib/systemd/system/multi-user.target.wants/rebootmgr.service": "-> ../rebootmgr.service"}, "rebootmgr.service"},
		"rebootmgr, off":     {map[string]string{wants + "rebootmgr.service": toUnit, "/etc/rebootmgr.conf": "[rebootmgr]\nstrategy=off\n"}, ""},
		"rebootmgr, best":    {map[string]string{wants + "rebootmgr.service": toUnit, "/etc/rebootmgr.conf": "[rebootmgr]\nstrategy=best-effort\n"}, "rebootmgr.service"},

		"zincati": {map[string]string{wants + "zincati.service": toUnit}, "zincati immediate default"},
		"zincati, periodic": {map[string]string{wants + "zincati.service": toUnit, zincatiD + "55-updates.toml": "[updates]\nstrategy = \"periodic\"\n\n[updates.periodic]\ntime_zone = \"UTC\"\n"},
			"zincati periodic 55-updates.toml"},
		"zincati, fleet_lock": {map[string]string{wants + "zincati.service": toUnit, zincatiD + "55-updates.toml": "[updates]\nstrategy = 'fleet_lock'\n"}, ""},
		"zincati, off":        {map[string]string{wants + "zincati.service": toUnit, zincatiD + "90-off.toml": "[updates]\nenabled = false\n"}, ""},
		"zincati, another section": {map[string]string{wants + "zincati.service": toUnit, zincatiD + "90.toml": "[identity]\nenabled = false\nstrategy = \"fleet_lock\"\n"},
			"zincati immediate"},
		"zincati, not enabled": {map[string]string{"/usr/lib/systemd/system/zincati.service": ""}, ""},

		"dnf":        {map[string]string{timers + "dnf-automatic.timer": toUnit, "/etc/dnf/automatic.conf": "[commands]\nreboot = when-needed\n"}, "dnf-automatic when-needed automatic.conf"},
		"dnf, never": {map[string]string{timers + "dnf-automatic.timer": toUnit, "/etc/dnf/automatic.conf": "[commands]\n# reboot = when-needed\nreboot = never\n"}, ""},

		"kured": {map[string]string{"/var/log/pods/kube-system_kured-x7k2p_0b1c/kured/0.log": ""}, "kured kube-system_kured-x7k2p_0b1c"},
		"FLUO":  {map[string]string{"/var/log/pods/reboot-coordinator_flatcar-linux-update-agent-abcde_1/update-agent/0.log": ""}, "Operator flatcar-linux-update-agent-abcde_1"},
		"pods":  {map[string]string{"/var/log/pods/default_web-1_2/web/0.log": ""}, ""},
	} {
		found := Find(on(t, test.files))
		if test.want == "" {
			if len(found) > 0 {
				t.Errorf("%s: found %q", name, found)
			}
			continue
		}
		if len(found) != 1 {
			t.Errorf("%s: found %q, want one", name, found)
			continue
		}
		for part := range strings.FieldsSeq(test.want) {
			if !strings.Contains(found[0], part) {
				t.Errorf("%s: %q does not have %q", name, found[0], part)
			}
		}
	}
}
