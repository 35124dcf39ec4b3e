package packaging

import (
	"os"
	"os/exec"
	"testing"

	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/realpart"
)

// inCopy runs a shell script in the folder of a copy of this machine's root, without a running systemd. Its changes are
// discarded. Its arguments begin with $2.
func inCopy(t *testing.T, script string, args ...string) (string, error) {
	t.Helper()
	realpart.Must(t, realpart.Root("mounts"))
	// Not t.TempDir: the test's name has commas, which separate the options of a mount.
	dir, err := os.MkdirTemp(folder, "copy")
	must.Do(t, err)
	const mounts = `set -eu
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
cd "$1/root"
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mount -t proc proc proc
mount --rbind /dev dev
`
	out, err := exec.Command("unshare", append([]string{"--mount", "sh", "-c", mounts + script, "sh", dir}, args...)...).CombinedOutput()
	return string(out), err
}
