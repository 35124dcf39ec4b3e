package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/realpart"
)

// debian runs a shell script in a copy of this machine's root, which has to be Debian's or a derivative's. The packages
// are /deb/old.deb and /deb/new.deb.
func debian(t *testing.T, script string) (string, error) {
	t.Helper()
	deb := packages(t).path("locksmith_" + versionOf(t) + "_" + strings.TrimSpace(output(t, "dpkg", "--print-architecture")) + ".deb")
	const prepare = `
mkdir -p deb etc/flatcar
cp "$2" deb/old.deb
dpkg-deb --raw-extract deb/old.deb deb/tree
sed -i 's/^Version: .*/Version: 99/' deb/tree/DEBIAN/control
dpkg-deb --root-owner-group -Znone --build deb/tree deb/new.deb > deb/log
rm -r deb/tree
echo REBOOT_STRATEGY=off > etc/flatcar/update.conf
chroot . sh -euc "$3"
`
	// This test does not check dependencies, which other packages may satisfy here.
	functions := `
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
package() { dpkg --force-depends --force-unsafe-io --no-triggers "$@" > /deb/log 2>&1 || { cat /deb/log; exit 1; }; }
state() { systemctl is-enabled locksmithd 2>&1 || true; }
`
	return inCopy(t, prepare, deb, functions+script)
}

func TestDebianPackageIsInstalledUpgradedAndRemoved(t *testing.T) {
	for _, test := range []struct{ name, script, want string }{
		{"the installed unit is enabled, and the programs run", `
package -i /deb/old.deb
state
locksmithctl -version
/usr/lib/locksmith/locksmithd -version
dpkg --verify locksmith
`, "enabled\nlocksmithctl version VERSION\nlocksmithd version VERSION\n"},
		{"the first installation says what to do, an upgrade does not", `
rm etc/flatcar/update.conf
package -i /deb/old.deb
grep -A 1 'locksmith does not reboot this host' /deb/log
package -i /deb/new.deb
grep 'does not reboot' /deb/log || echo silent
package -P locksmith
mkdir /etc/locksmith
touch /etc/locksmith/locksmith.conf
package -i /deb/old.deb
grep 'does not reboot' /deb/log || echo silent
package -P locksmith
ls /etc/locksmith
`, `locksmith does not reboot this host before you say so: set REBOOT_STRATEGY and LOCKSMITHD_ENDPOINT in
/etc/locksmith/locksmith.conf, as /usr/lib/locksmith/locksmith.conf shows. Then run "systemctl restart locksmithd".
silent
silent
locksmith.conf
`},
		{"an upgrade leaves the unit enabled", `
package -i /deb/old.deb
package -i /deb/new.deb
state
`, "enabled\n"},
		{"a disabled unit stays so", `
package -i /deb/old.deb
systemctl --quiet disable locksmithd 2> /deb/log
package -i /deb/new.deb
state
package -r locksmith
package -i /deb/new.deb
state
`, "disabled\ndisabled\n"},
		{"a masked unit stays so", `
package -i /deb/old.deb
systemctl --quiet mask locksmithd 2> /deb/log
package -i /deb/new.deb
state
`, "masked\n"},
		{"a removed and installed unit is enabled", `
package -i /deb/old.deb
package -r locksmith
test ! -e /usr/lib/locksmith
package -i /deb/old.deb
state
`, "enabled\n"},
		{"a newer package after a removal is enabled", `
package -i /deb/old.deb
package -r locksmith
package -i /deb/new.deb
state
`, "enabled\n"},
		{"a purged package leaves only files that are not its own", `
touch /deb/before
package -i /deb/old.deb
mkdir /var/lib/locksmith
touch /var/lib/locksmith/token
package -P locksmith
find /etc /opt /run /usr /var -xdev -newer /deb/before \( -iname '*locksmith*' -o -lname '*locksmith*' -o -name update.conf \)
cat /etc/flatcar/update.conf
dpkg -s locksmith > /deb/log 2>&1 || echo unknown
`, "REBOOT_STRATEGY=off\nunknown\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			out, err := debian(t, test.script)
			if want := strings.ReplaceAll(test.want, "VERSION", versionOf(t)); err != nil || out != want {
				t.Errorf("it says %q (%v), want %q", out, err, want)
			}
		})
	}
}

// This checks the commands of the scripts; the tests on hosts with a real systemd check
// their effects.
func TestMaintainerScriptsCallARunningSystemd(t *testing.T) {
	realpart.Must(t, realpart.Root("mounts"))
	for _, test := range []struct{ script, args, want string }{
		{"postinst", "configure", "systemctl --system daemon-reload\ndeb-systemd-invoke start locksmithd.service\n"},
		{"postinst", "configure 0.7.0", "systemctl --system daemon-reload\ndeb-systemd-invoke try-restart locksmithd.service\ndeb-systemd-invoke try-restart locksmith-serve.service\n"},
		{"postinst", "abort-upgrade 0.9.0", "systemctl --system daemon-reload\ndeb-systemd-invoke try-restart locksmithd.service\ndeb-systemd-invoke try-restart locksmith-serve.service\n"},
		{"prerm", "remove", "deb-systemd-invoke stop locksmithd.service locksmith-serve.socket locksmith-serve.service\n"},
		{"prerm", "upgrade 0.9.0", ""},
		{"postrm", "remove", "systemctl --system daemon-reload\n"},
		{"postrm", "upgrade 0.9.0", "systemctl --system daemon-reload\n"},
		{"postrm", "purge", "systemctl --system daemon-reload\n"},
	} {
		t.Run(test.script+" "+test.args, func(t *testing.T) {
			script, err := filepath.Abs(filepath.Join("locksmith", "deb", test.script))
			must.Do(t, err)
			bin := t.TempDir()
			for _, name := range []string{"systemctl", "deb-systemd-invoke"} {
				// They fail, as with a mistake in update.conf: the package must not fail.
				text := "#!/bin/sh\necho \"" + name + " $*\"\nexit 1\n"
				must.Do(t, os.WriteFile(filepath.Join(bin, name), []byte(text), 0o755))
			}
			must.Do(t, os.WriteFile(filepath.Join(bin, "deb-systemd-helper"), []byte("#!/bin/sh\n"), 0o755))
			cmd := exec.Command("unshare", append([]string{"--mount", "sh", "-c",
				`mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/lib && mount -t tmpfs tmpfs /etc && mkdir -p /run/systemd/system /etc/locksmith && touch /etc/locksmith/locksmith.conf && exec "$@"`, "sh", script}, strings.Fields(test.args)...)...)
			cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
			out, err := cmd.CombinedOutput()
			if err != nil || string(out) != test.want {
				t.Errorf("it runs %q (%v), want %q", out, err, test.want)
			}
		})
	}
}
