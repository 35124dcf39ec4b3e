package sentinel

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/locksmithd/locksmith/test/must"
)

func TestWhatCreatesTheFile(t *testing.T) {
	for _, test := range []struct {
		path, has string
		want      bool
	}{
		{"/run/reboot-required", "", false},
		{"/run/reboot-required", "etc/kernel/postinst.d/unattended-upgrades", true},
		{"/var/run/reboot-required", "", false},
		{"/var/run/reboot-required", "usr/share/update-notifier/notify-reboot-required", true},
		{"/run/reboot-required", "usr/sbin/transactional-update", true},
		{"/run/reboot-needed", "etc/kernel/postinst.d/unattended-upgrades", false},
		{"/run/reboot-needed", "usr/lib/zypp/plugins/commit/zypp-boot-plugin", true},
		{"/run/our-own", "", true}, // not known
	} {
		root := t.TempDir()
		if test.has != "" {
			must.Do(t, os.MkdirAll(filepath.Dir(filepath.Join(root, test.has)), 0o755))
			must.Do(t, os.WriteFile(filepath.Join(root, test.has), nil, 0o755))
		}
		if got := Written(root, test.path); got != test.want {
			t.Errorf("%s with %q: %v", test.path, test.has, got)
		}
	}
}
