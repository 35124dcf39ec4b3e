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

	"github.com/locksmithd/locksmith/test/realpart"
)

// flatcar is a root directory that has what a Flatcar host has where the extension
// goes: a daemon that is a link to the CLI, and /usr/sbin that is one to /usr/bin.
// systemd-sysext and its libraries are from this machine.
func flatcar(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for _, dir := range []string{"dev", "etc", "proc", "run", "sys", "tmp", "usr/bin", "usr/lib/locksmith", "usr/lib/systemd/system"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{
		"usr/lib/os-release": "ID=flatcar\nVERSION_ID=4230.2.1\nSYSEXT_LEVEL=1.0\n",
		cliPath:              "#!/shipped\n",
		unitPath:             "[Service]\nExecStart=/shipped\n",
	} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{
		"etc/os-release": "../usr/lib/os-release",
		"usr/sbin":       "bin",
		daemonPath:       "../../bin/locksmithctl",
	} {
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	realpart.Must(t, realpart.Tool("systemd-sysext", "systemd"))
	sysext, err := exec.LookPath("systemd-sysext")
	if err != nil {
		t.Fatal(err)
	}
	needed := regexp.MustCompile(`/\S+`).FindAllString(output(t, "ldd", sysext), -1)
	for _, name := range append(needed, sysext) {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// inRoot runs a shell script outside of root, with the mounts in it that a host has.
// Nobody else sees these, and they go with the script.
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

// butane is what the tests need of the example of a system extension in docs/flatcar.md.
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
	if err != nil {
		t.Fatal(err)
	}
	example := regexp.MustCompile("(?s)\n```yaml\n(.*?)\n```\n").FindSubmatch(document)
	if example == nil {
		t.Fatal("docs/flatcar.md has no YAML example")
	}
	var b butane
	if err := yaml.Unmarshal(example[1], &b); err != nil {
		t.Fatal(err)
	}
	if len(b.Storage.Files) != 1 || len(b.Storage.Links) != 1 {
		t.Fatalf("the example has %+v, want one file and one link", b)
	}
	return b
}

// The image is put where the documentation says. Where there are no loop devices it is
// the tree beside the image, which systemd-sysext takes as well.
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
				if err := os.MkdirAll(dir, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			output(t, "cp", "-r", artefact+suffix, place)
			if err := os.Symlink(strings.TrimSuffix(link.Target, ".raw")+suffix, name); err != nil {
				t.Fatal(err)
			}
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
				if err := os.RemoveAll(path); err != nil {
					t.Fatal(err)
				}
			}
			walk(t, root).compare(t, before)
		})
	}
}

// The name by which the image is merged is that of the link, and not its own.
func TestVersionIsNotInTheNameOfTheExtension(t *testing.T) {
	link := documentedDeployment(t).Storage.Links[0]
	name := strings.TrimSuffix(filepath.Base(link.Path), ".raw")
	tree := packages(t).path("locksmith-" + versionOf(t) + "-x86-64")
	entries, err := fs.Glob(os.DirFS(tree), "usr/lib/extension-release.d/*")
	if want := "usr/lib/extension-release.d/extension-release." + name; err != nil || len(entries) != 1 || entries[0] != want {
		t.Errorf("the extension has %q (%v), want %s for %s", entries, err, want, link.Path)
	}
}
