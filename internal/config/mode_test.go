package config

import (
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/internal/policy"
)

func TestRebootMode(t *testing.T) {
	for value, want := range map[string]policy.Mode{"": policy.FullReboot, "reboot": policy.FullReboot, "soft-reboot": policy.SoftReboot, "kexec": policy.Kexec, "auto": policy.Auto} {
		for _, program := range []Program{Daemon, CLI} {
			root := newRoot(t, map[string]string{etc: "LOCKSMITHD_REBOOT_MODE=" + value, "usr/sbin/transactional-update": ""})
			if c := mustLoad(t, Options{Program: program, Root: root}); c.RebootMode != want || len(c.Warnings) > 0 {
				t.Errorf("%s, %q: it is %q, with the warnings %q", program, value, c.RebootMode, c.Warnings)
			}
		}
	}
	for _, value := range []string{"Reboot", "soft", "softreboot", "halt", "off"} {
		_, err := Load(Options{Program: Daemon, Root: newRoot(t, map[string]string{etc: "LOCKSMITHD_REBOOT_MODE=" + value})})
		if err == nil || !strings.HasPrefix(err.Error(), "LOCKSMITHD_REBOOT_MODE=") || !strings.Contains(err.Error(), "it is not a kind of reboot: write reboot, soft-reboot, kexec or auto") {
			t.Errorf("%s: %v", value, err)
		}
	}
}

func TestModeOfNoUseIsWarnedOf(t *testing.T) {
	const engine, suse, command = "usr/sbin/update_engine", "usr/sbin/transactional-update", "\nLOCKSMITHD_REBOOT_SENTINEL_COMMAND="
	for _, test := range []struct{ conf, file, warning string }{
		{"reboot", engine, ""},
		{"soft-reboot", engine, "the updates of update_engine (/usr/sbin/update_engine) get a full reboot, because nothing else boots them: write reboot"},
		{"kexec", engine, "nothing else boots them: write reboot"},
		{"auto", engine, "nothing else boots them: write reboot"},
		{"soft-reboot", "", ""},
		{"auto", "", "nothing on this host writes /run/reboot-needed, and then each reboot is a full one: write reboot, soft-reboot or kexec"},
		{"auto", suse, ""},
		{"soft-reboot" + command + "needs-restarting", "", "needs-restarting (LOCKSMITHD_REBOOT_SENTINEL_COMMAND) still says after a soft reboot that a reboot is needed, so a full one follows each time: write reboot"},
		{"soft-reboot" + command + "needrestart", "", "needrestart (LOCKSMITHD_REBOOT_SENTINEL_COMMAND) still says"},
		{"soft-reboot" + command + "sysupdate", "", ""},
		{"kexec" + command + "needrestart", "", ""},
	} {
		files := map[string]string{etc: "LOCKSMITHD_REBOOT_MODE=" + test.conf}
		if test.file != "" {
			files[test.file] = ""
		}
		c := mustLoad(t, Options{Program: Daemon, Root: newRoot(t, files)})
		switch {
		case test.warning == "" && len(c.Warnings) > 0, len(c.Warnings) > 1:
			t.Errorf("%q, %s: the warnings are %q", test.conf, test.file, c.Warnings)
		case test.warning != "" && (len(c.Warnings) != 1 || !strings.HasPrefix(c.Warnings[0], "LOCKSMITHD_REBOOT_MODE=") || !strings.Contains(c.Warnings[0], test.warning)):
			t.Errorf("%q, %s: the warnings are %q, want %q", test.conf, test.file, c.Warnings, test.warning)
		}
	}
}
