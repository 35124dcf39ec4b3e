package packaging

import (
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/locksmithd/locksmith/test/must"
)

// The next version, with the same content.
var nextRPM = sync.OnceValues(func() (string, error) {
	b, err := first()
	if err != nil {
		return "", err
	}
	path := filepath.Join(folder, "next.rpm")
	return path, b.run(nil, "packaging/build-rpm", "locksmith", "99", runtime.GOARCH, path)
})

// onRPM runs a shell script with rpm in a root of its own, which has this machine's programs, and an empty database of
// packages. The script runs outside of the root, in its folder; old and new are the packages.
func onRPM(t *testing.T, script string) (string, error) {
	t.Helper()
	arch := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	old := packages(t).path("locksmith-" + versionOf(t) + "-1." + arch + ".rpm")
	next, err := nextRPM()
	must.Do(t, err)
	const functions = `
old=$2 new=$3
rm -rf var/lib/rpm etc/systemd/system-preset usr/lib/systemd/system-preset
mkdir -p etc/systemd/system-preset etc/locksmith
# The package does not conflict with dependencies that are here, but in no database. A script that fails makes rpm fail.
package() { rpm --root "$PWD" --nodeps "$@" > log 2>&1 && ! grep -i -e warning -e error log || { cat log; exit 1; }; }
in_root() { chroot . "$@"; }
state() { in_root systemctl is-enabled locksmithd 2>&1 || true; }
preset() { echo "$1" > etc/systemd/system-preset/50-test.preset; }
`
	return inCopy(t, functions+script, old, next)
}

func TestRPMPackageIsInstalledUpgradedAndRemoved(t *testing.T) {
	for _, test := range []struct{ name, script, want string }{
		{"it is disabled where the distribution says so, and the programs run", `
preset "disable *"
package -i "$old"
state
in_root locksmithctl -version
in_root /usr/lib/locksmith/locksmithd -version
rpm --root "$PWD" --verify --nodeps locksmith
`, "disabled\nlocksmithctl version VERSION\nlocksmithd version VERSION\n"},
		{"it is enabled where the distribution says so, and removed with its link", `
preset "enable locksmithd.service"
package -i "$old"
state
package -e locksmith
find etc/systemd -name '*locksmith*'
state
`, "enabled\nFailed to get unit file state for locksmithd.service: No such file or directory\n"},
		{"an upgrade leaves an enabled unit enabled, and replaces the package's settings only", `
preset "disable *"
package -i "$old"
in_root systemctl --quiet enable locksmithd 2> /dev/null
echo REBOOT_STRATEGY=reboot > etc/locksmith/locksmith.conf
echo REBOOT_STRATEGY=reboot > usr/lib/locksmith/locksmith.conf
package -U "$new"
state
grep -h ^REBOOT etc/locksmith/locksmith.conf usr/lib/locksmith/locksmith.conf
rpm --root "$PWD" -q locksmith --queryformat '%{VERSION}\n'
`, "enabled\nREBOOT_STRATEGY=reboot\nREBOOT_STRATEGY=off\n99\n"},
		{"an upgrade leaves a disabled and a masked unit as they are", `
preset "enable *"
package -i "$old"
in_root systemctl --quiet disable locksmithd 2> /dev/null
package -U "$new"
state
package -U --oldpackage "$old"
in_root systemctl --quiet mask locksmithd 2> /dev/null
package -U "$new"
state
`, "disabled\nmasked\n"},
		{"a removal leaves only what is not its own", `
preset "enable *"
package -i "$old"
echo mine > etc/locksmith/locksmith.conf
mkdir var/lib/locksmith
touch var/lib/locksmith/token
touch before
package -U "$new"
package -e locksmith
find etc usr var -xdev \( -iname '*locksmith*' -o -lname '*locksmith*' \) | sort
cat etc/locksmith/locksmith.conf
`, "etc/locksmith\netc/locksmith/locksmith.conf\nvar/lib/locksmith\nmine\n"},
		{"the first installation says what to do, an upgrade does not", `
package -i "$old"
grep -A 2 '^locksmith does not reboot this host' log
package -U "$new"
grep 'does not reboot' log || echo silent
package -e locksmith
touch etc/locksmith/locksmith.conf
package -i "$old"
grep 'does not reboot' log || echo silent
`, `locksmith does not reboot this host before you say so: set REBOOT_STRATEGY and LOCKSMITHD_ENDPOINT in
/etc/locksmith/locksmith.conf, as /usr/lib/locksmith/locksmith.conf shows. Then run "systemctl enable locksmithd" and
"systemctl restart locksmithd".
silent
silent
`},
	} {
		t.Run(test.name, func(t *testing.T) {
			out, err := onRPM(t, test.script)
			if want := strings.ReplaceAll(test.want, "VERSION", versionOf(t)); err != nil || out != want {
				t.Errorf("it says %q (%v), want %q", out, err, want)
			}
		})
	}
}

// The systemctl of this test writes down how it is called, and fails, as with a mistake in locksmith.conf: the package
// must not fail.
func TestScriptsOfTheRPMPackageCallARunningSystemd(t *testing.T) {
	out, err := onRPM(t, `
mkdir -p run/systemd/system
touch etc/locksmith/locksmith.conf
rm usr/bin/systemctl
cat > usr/bin/systemctl <<'END'
#!/bin/sh
echo "$*" >> /calls
exit 1
END
chmod 755 usr/bin/systemctl
for step in "-i $old" "-U $new" "-e locksmith"; do
    echo "${step%% *}" >> calls
    package $step
done
cat calls
`)
	const want = `-i
--no-reload preset locksmithd.service
--system daemon-reload
-U
--system daemon-reload
--system daemon-reload
--system try-restart locksmithd.service locksmith-serve.service
-e
--no-reload disable --now locksmithd.service locksmith-serve.socket locksmith-serve.service
--system daemon-reload
`
	if err != nil || out != want {
		t.Errorf("systemctl is called with\n%s(%v), want\n%s", out, err, want)
	}
}
