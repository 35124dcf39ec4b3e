package packaging

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/realpart"
)

// flatcar returns a root directory like a Flatcar host's in the places of the extension:
// the daemon is a link to the CLI, and /usr/sbin is a link to /usr/bin. systemd-sysext
// and its libraries are this machine's.
func flatcar(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for _, dir := range []string{"dev", "etc", "proc", "run", "sys", "tmp", "usr/bin", "usr/lib/locksmith", "usr/lib/systemd/system"} {
		must.Do(t, os.MkdirAll(filepath.Join(root, dir), 0o755))
	}
	for name, text := range map[string]string{
		"usr/lib/os-release": "ID=flatcar\nVERSION_ID=4230.2.1\nSYSEXT_LEVEL=1.0\n",
		cliPath:              "#!/shipped\n",
		unitPath:             "[Service]\nExecStart=/shipped\n",
	} {
		must.Do(t, os.WriteFile(filepath.Join(root, name), []byte(text), 0o755))
	}
	for name, target := range map[string]string{
		"etc/os-release": "../usr/lib/os-release",
		"usr/sbin":       "bin",
		daemonPath:       "../../bin/locksmithctl",
	} {
		must.Do(t, os.Symlink(target, filepath.Join(root, name)))
	}
	realpart.Must(t, realpart.Tool("systemd-sysext", "systemd"))
	sysext, err := exec.LookPath("systemd-sysext")
	must.Do(t, err)
	needed := regexp.MustCompile(`/\S+`).FindAllString(output(t, "ldd", sysext), -1)
	for _, name := range append(needed, sysext) {
		data, err := os.ReadFile(name)
		must.Do(t, err)
		must.Do(t, os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755))
		must.Do(t, os.WriteFile(filepath.Join(root, name), data, 0o755))
	}
	return root
}

// inRoot runs a shell script in the folder root, with a host's mounts below it. Other
// processes do not see these mounts, and they end with the script.
func inRoot(t *testing.T, root, script string) string {
	t.Helper()
	realpart.Must(t, realpart.Root("systemd-sysext"))
	const mounts = `set -eu
cd "$1"
mount --bind . .
mount --make-shared .
cd "$1"
mount -t tmpfs tmpfs run
mount -t proc proc proc
mount --rbind /dev dev
mount --rbind /sys sys
`
	return output(t, "unshare", "--mount", "sh", "-c", mounts+script, "sh", root)
}

// butane is the part of the example in docs/flatcar.md that the tests need.
type butane struct {
	Storage struct {
		Files []struct {
			Path     string
			Contents struct {
				Source       string
				Verification struct{ Hash string }
			}
		}
		Links []struct {
			Path, Target string
			Hard         bool
		}
	}
}

func documentedDeployment(t *testing.T) butane {
	t.Helper()
	document, err := os.ReadFile("../docs/flatcar.md")
	must.Do(t, err)
	example := regexp.MustCompile("(?s)\n```yaml\n(.*?)\n```\n").FindSubmatch(document)
	if example == nil {
		t.Fatal("docs/flatcar.md has no YAML example")
	}
	var b butane
	must.Do(t, yaml.Unmarshal(example[1], &b))
	if len(b.Storage.Files) != 1 || len(b.Storage.Links) != 1 {
		t.Fatalf("the example has %+v, want one file and one link", b)
	}
	return b
}

// The image is put where the documentation says. Without loop devices only the tree
// beside the image is tested, which systemd-sysext accepts as well.
func TestSystemExtensionReplacesWhatFlatcarShips(t *testing.T) {
	architecture := map[string]string{"amd64": "x86-64", "arm64": "arm64"}[runtime.GOARCH]
	artefact := packages(t).path("locksmith-" + versionOf(t) + "-" + architecture)
	storage := documentedDeployment(t).Storage
	image, link := storage.Files[0].Path, storage.Links[0]
	if filepath.Base(image) != "locksmith-"+versionOf(t)+"-x86-64.raw" || link.Target != image || link.Hard {
		t.Fatalf("the example in docs/flatcar.md deploys %s by the link %+v", image, link)
	}

	kinds := map[string]string{"tree": ""}
	if loop, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0); err == nil {
		loop.Close()
		kinds["image"] = ".raw"
	}
	for kind, suffix := range kinds {
		t.Run(kind, func(t *testing.T) {
			root := flatcar(t)
			before := walk(t, root)
			place := filepath.Join(root, strings.TrimSuffix(image, ".raw")+suffix)
			name := filepath.Join(root, strings.TrimSuffix(link.Path, ".raw")+suffix)
			for _, dir := range []string{filepath.Dir(place), filepath.Dir(name)} {
				must.Do(t, os.MkdirAll(dir, 0o755))
			}
			output(t, "cp", "-r", artefact+suffix, place)
			must.Do(t, os.Symlink(strings.TrimSuffix(link.Target, ".raw")+suffix, name))
			out := inRoot(t, root, `
chroot . /usr/bin/systemd-sysext merge
echo "daemon: $(chroot . /usr/lib/locksmith/locksmithd -version)"
echo "CLI: $(chroot . /usr/bin/locksmithctl -version)"
echo "CLI: $(chroot . /usr/sbin/locksmithctl -version)"
grep ExecStart= usr/lib/systemd/system/locksmithd.service
chroot . /usr/bin/systemd-sysext unmerge
echo "CLI: $(cat usr/bin/locksmithctl)"
`)
			for _, want := range []string{
				"Using extensions 'locksmith'.",
				"daemon: locksmithd version " + versionOf(t),
				"CLI: locksmithctl version " + versionOf(t) + "\nCLI: locksmithctl version " + versionOf(t),
				"ExecStart=" + daemonPath,
				"CLI: #!/shipped",
			} {
				if !strings.Contains(out, want+"\n") {
					t.Errorf("there is no line %q in:\n%s", want, out)
				}
			}
			for _, path := range []string{place, name} {
				must.Do(t, os.RemoveAll(path))
			}
			walk(t, root).compare(t, before)
		})
	}
}

// The image is merged under the name of the link, not under its own.
func TestVersionIsNotInTheNameOfTheExtension(t *testing.T) {
	link := documentedDeployment(t).Storage.Links[0]
	name := strings.TrimSuffix(filepath.Base(link.Path), ".raw")
	tree := packages(t).path("locksmith-" + versionOf(t) + "-x86-64")
	entries, err := fs.Glob(os.DirFS(tree), "usr/lib/extension-release.d/*")
	if want := "usr/lib/extension-release.d/extension-release." + name; err != nil || len(entries) != 1 || entries[0] != want {
		t.Errorf("the extension has %q (%v), want %s for %s", entries, err, want, link.Path)
	}
}
