package provision

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/realpart"
)

// bin is the folder of locksmithctl, the transpilers and the program that lays their output on a root.
var bin string

func TestMain(m *testing.M) {
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	var err error
	if bin, err = os.MkdirTemp("", "provision-test-"); err == nil {
		defer os.RemoveAll(bin)
		err = build(map[string]string{
			"locksmithctl": "../../locksmithctl",
			"ct":           "github.com/coreos/container-linux-config-transpiler/internal",
			"butane":       "github.com/coreos/butane/internal",
			"provision":    "github.com/locksmithd/locksmith/tools/provision",
		})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// build builds programs by their packages. Those of other projects are in a module of their own.
func build(programs map[string]string) error {
	for name, pkg := range programs {
		cmd := exec.Command("go", "build", "-o", filepath.Join(bin, name), pkg)
		if strings.HasPrefix(pkg, "github.com/") {
			cmd.Dir = "../../tools/provision"
		}
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", pkg, err, out)
		}
	}
	return nil
}

// TestScripts runs each script in testdata/script. Besides the commands of package testscript they have these:
//
//	host CONFIG     make the root of a Flatcar host in the folder root, and provision it with CONFIG: a
//	                Container Linux Config (.yaml), a Butane file (.bu) or an Ignition configuration (.ign)
//	config CODE     run "locksmithctl config" as root on that host, and copy its output without default
//	                settings to standard output; it must exit with CODE
func TestScripts(t *testing.T) {
	t.Parallel()
	realpart.Must(t, realpart.Root("chroot"))
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"host": func(ts *testscript.TestScript, _ bool, args []string) {
				root := ts.MkAbs("root")
				ts.Check(os.RemoveAll(root))
				ts.Check(makeHost(root))
				fmt.Fprint(ts.Stdout(), check(ts, func() (string, error) { return provision(root, ts.MkAbs(args[0])) }))
			},
			"config": func(ts *testscript.TestScript, _ bool, args []string) {
				stdout, stderr, status, err := config(ts.MkAbs("root"))
				ts.Check(err)
				fmt.Fprint(ts.Stdout(), stdout)
				fmt.Fprint(ts.Stderr(), stderr)
				if fmt.Sprint(status) != args[0] {
					ts.Fatalf("locksmithctl config exits with %d\n%s", status, stderr)
				}
			},
		},
	})
}

func check[T any](ts *testscript.TestScript, f func() (T, error)) T {
	v, err := f()
	ts.Check(err)
	return v
}

// documented returns the examples in the documentation, in order by page, each as the output of
// "locksmithctl config" on a host provisioned with it.
func documented() map[string][]string {
	return map[string][]string{
		"docs/fedora-coreos.md": {""}, // Zincati's own files
		"docs/flatcar.md": {
			"", // the system extension installs the programs, and sets nothing
			`
strategy etcd-lock /etc/flatcar/update.conf:2
window-start Mon-Fri 04:00 /etc/flatcar/update.conf:5
window-length 2h /etc/flatcar/update.conf:6
window-timezone Europe/Berlin /etc/flatcar/update.conf:7
endpoint https://10.0.0.1:2379,https://10.0.0.2:2379 /etc/flatcar/update.conf:3
etcd-cafile /etc/ssl/certs/etcd-ca.pem /etc/flatcar/update.conf:4
`,
		},
		"docs/kubernetes-flatcar.md": {`
strategy etcd-lock /etc/flatcar/update.conf:2
window-start Mon-Fri 02:00 /etc/flatcar/update.conf:6
window-length 4h /etc/flatcar/update.conf:7
window-timezone Europe/Berlin /etc/flatcar/update.conf:8
endpoint https://10.0.0.1:2379,https://10.0.0.2:2379,https://10.0.0.3:2379 /etc/flatcar/update.conf:4
group workers /etc/flatcar/update.conf:3
etcd-cafile /etc/ssl/certs/etcd-ca.pem /etc/flatcar/update.conf:5
before-reboot-timeout 25m /etc/flatcar/update.conf:9
health-timeout 15m /etc/flatcar/update.conf:10
`},
	}
}

func TestEveryDocumentedExampleHasItsSettings(t *testing.T) {
	t.Parallel()
	realpart.Must(t, realpart.Root("chroot"))
	pages, err := filepath.Glob("../../docs/*.md")
	must.Do(t, err)
	want := documented()
	for _, page := range append(pages, "../../README.md") {
		text, err := os.ReadFile(page)
		must.Do(t, err)
		name := strings.TrimPrefix(page, "../../")
		for _, example := range regexp.MustCompile("(?s)\n```yaml\n(variant: .*?)\n```\n").FindAllSubmatch(text, -1) {
			if len(want[name]) == 0 {
				t.Errorf("%s has an example that this test does not have:\n%s", name, example[1])
				continue
			}
			settings := want[name][0]
			want[name] = want[name][1:]
			file := filepath.Join(t.TempDir(), "example.bu")
			root := filepath.Join(t.TempDir(), "root")
			must.Do(t, os.WriteFile(file, example[1], 0o600))
			must.Do(t, makeHost(root))
			if _, err := provision(root, file); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			stdout, stderr, status, err := config(root)
			if err != nil || status != 0 || stderr != "" || stdout != strings.TrimPrefix(settings, "\n") {
				t.Errorf("%s: locksmithctl config on such a host: %v, status %d\n%s%s\nwant\n%s", name, err, status, stdout, stderr, settings)
			}
		}
	}
	for name, missing := range want {
		if len(missing) > 0 {
			t.Errorf("%s has fewer examples of Butane than are known here: %d are missing", name, len(missing))
		}
	}
}

// makeHost makes the root of a Flatcar host, as far as settings are concerned: the unit and the links of the
// distribution, locksmithctl, the certificates that the examples name, time zones, and an empty file at /dev/null,
// the target of the link of a masked unit.
func makeHost(root string) error {
	for _, dir := range []string{"dev", "etc/flatcar", "etc/ssl/certs", "usr/share/flatcar", "usr/bin", "usr/lib/systemd/system"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return err
		}
	}
	if err := os.Symlink("flatcar", filepath.Join(root, "etc/coreos")); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(root, "dev/null"), nil, 0o666); err != nil {
		return err
	}
	// A link, not a copy: a file that was just written cannot be run while another test starts a process.
	if err := os.Link(filepath.Join(bin, "locksmithctl"), filepath.Join(root, "usr/bin/locksmithctl")); err != nil {
		return err
	}
	goroot, err := output(exec.Command("go", "env", "GOROOT"))
	if err != nil {
		return err
	}
	for from, to := range map[string]string{
		"testdata/locksmithd.service": "usr/lib/systemd/system/locksmithd.service",
		filepath.Join(strings.TrimSpace(string(goroot)), "lib", "time", "zoneinfo.zip"): "usr/share/zoneinfo.zip",
	} {
		data, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(filepath.Join(root, to), data, 0o755)
		}
		if err != nil {
			return err
		}
	}
	return makeCertificates(filepath.Join(root, "etc/ssl/certs"))
}

// makeCertificates writes an authority's and a client's certificate to the paths in the examples.
func makeCertificates(dir string) error {
	ca, err := etcdtest.NewCA(dir)
	if err != nil {
		return err
	}
	client, err := ca.Issue(etcdtest.Certificate{CommonName: "host"})
	if err != nil {
		return err
	}
	for from, to := range map[string]string{ca.File(): "ca.pem", client.CertFile: "client.pem", client.KeyFile: "client-key.pem"} {
		if err := os.Rename(from, filepath.Join(dir, to)); err != nil {
			return err
		}
	}
	return os.Symlink("ca.pem", filepath.Join(dir, "etcd-ca.pem"))
}

// provision takes a host through its first boot, as far as settings are concerned, and returns what could not be
// fetched. A warning of a transpiler or parser is an error.
func provision(root, file string) (string, error) {
	ignition, err := transpile(file)
	if err != nil {
		return "", err
	}
	cmd := exec.Command(filepath.Join(bin, "provision"), root)
	cmd.Stdin = bytes.NewReader(ignition)
	out, err := output(cmd)
	return string(out), err
}

// transpile returns the Ignition configuration for a file.
func transpile(file string) ([]byte, error) {
	switch filepath.Ext(file) {
	case ".yaml":
		return output(exec.Command(filepath.Join(bin, "ct"), "-strict", "-in-file", file))
	case ".bu":
		return output(exec.Command(filepath.Join(bin, "butane"), "--strict", file))
	}
	return os.ReadFile(file)
}

// output returns a command's standard output. An error contains its standard error.
func output(cmd *exec.Cmd) ([]byte, error) {
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", filepath.Base(cmd.Path), err, stderr.Bytes())
	}
	return out, nil
}

// config runs "locksmithctl config" in a root, and returns the settings that are not defaults, one a line, with
// single blanks.
func config(root string) (settings, stderr string, status int, err error) {
	cmd := exec.Command("chroot", root, "/usr/bin/locksmithctl", "config")
	cmd.Env = []string{"ZONEINFO=/usr/share/zoneinfo.zip"}
	var errors bytes.Buffer
	cmd.Stderr = &errors
	out, err := cmd.Output()
	if cmd.ProcessState == nil {
		return "", "", 0, err
	}
	table, _, _ := strings.Cut(string(out), "\n\n") // the triggers come behind it
	for line := range strings.Lines(table) {
		line = strings.Join(strings.Fields(line), " ")
		if !strings.HasPrefix(line, "SETTING ") && !strings.HasSuffix(line, " default") {
			settings += line + "\n"
		}
	}
	return settings, errors.String(), cmd.ProcessState.ExitCode(), nil
}
