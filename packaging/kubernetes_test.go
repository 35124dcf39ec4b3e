package packaging

import (
	"debug/elf"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/test/contains"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/nspawntest"
	"github.com/locksmithd/locksmith/test/realpart"
)

// The paths of locksmith-kubernetes.
const (
	kubernetesPath    = "/usr/bin/locksmith-kubernetes"
	mayRebootPath     = "/usr/lib/locksmith/may-reboot.d/50-kubernetes"
	kubernetesDocPath = "/usr/share/doc/locksmith-kubernetes"
	kubernetesManPath = "/usr/share/man/man8/locksmith-kubernetes.8.gz"
)

// kubernetesFiles returns what locksmith-kubernetes consists of: nothing in /etc, and a link for each unit that hooks it in.
func kubernetesFiles() files {
	const mode, units = "-rw-r--r--", "/usr/lib/systemd/system/"
	all := files{
		kubernetesPath: "-rwxr-xr-x",
		mayRebootPath:  "-rwxr-xr-x",
		units + "locksmith-kubernetes-.service.d/10-locksmith.conf": mode,
		units + "locksmith-may-reboot.service.d/50-kubernetes.conf": mode,
		kubernetesDocPath + "/examples/kubernetes.conf":             mode,
	}
	for phase, unit := range kubernetesUnits() {
		all[units+unit] = mode
		all[units+"locksmith-"+phase+".target.requires/"+unit] = "-> ../" + unit
	}
	return all
}

// kubernetesUnits returns the units that are hooked in, by phase.
func kubernetesUnits() map[string]string {
	return map[string]string{
		"before-reboot":    "locksmith-kubernetes-drain.service",
		"reboot-cancelled": "locksmith-kubernetes-undrain.service",
		"after-reboot":     "locksmith-kubernetes-uncordon.service",
	}
}

// checkKubernetes checks the program below root, and what starts it.
func checkKubernetes(t *testing.T, root, prefix string, machine elf.Machine) {
	t.Helper()
	file, err := elf.Open(root + strings.Replace(kubernetesPath, "/usr", prefix, 1))
	must.Do(t, err)
	defer file.Close()
	if file.Machine != machine || file.Section(".interp") != nil {
		t.Errorf("the program is for %v, or needs libraries of the host; want %v and a static one", file.Machine, machine)
	}
	command := strings.Replace(kubernetesPath, "/usr", prefix, 1)
	units := root + prefix + "/lib/systemd/system/"
	for path, want := range map[string]string{
		units + "locksmith-kubernetes-drain.service":             "\nExecStart=" + command + " drain\n",
		units + "locksmith-kubernetes-undrain.service":           "\nExecStart=" + command + " uncordon --cancelled\n",
		units + "locksmith-kubernetes-uncordon.service":          "\nExecStart=" + command + " uncordon\n",
		root + strings.Replace(mayRebootPath, "/usr", prefix, 1): "\nexec " + command + " may-reboot\n",
	} {
		text, err := os.ReadFile(path)
		must.Do(t, err)
		// Else systemctl would offer to disable what only the package's links enable.
		if !strings.Contains(string(text), want) || strings.Contains(string(text), "[Install]") {
			t.Errorf("%s does not have %q, or it can be enabled:\n%s", path, want, text)
		}
	}
}

// checkNotices checks the licences, also those of code that a module has copied from elsewhere.
func checkNotices(t *testing.T, text string) {
	t.Helper()
	if !contains.All(text, "locksmith-kubernetes contains ", "\n==== Go go", "\n==== k8s.io/client-go v", "\n---- in third_party/forked/golang\n\nCopyright (c) 2009 The Go Authors.") ||
		strings.Contains(text, "\n==== github.com/locksmithd/") {
		t.Errorf("licences are missing, or it has our own, in:\n%s", text)
	}
}

func TestKubernetesIsInstalledWhereHostsLookForIt(t *testing.T) {
	b := kubernetesPackages(t)
	root := t.TempDir()
	must.Do(t, b.run(nil, "sh", "-c", "umask 0077; make --old-file=kubernetes --old-file=bin/share install-locksmith-kubernetes ARCH=arm64 PREFIX=/usr/local DESTDIR="+root))
	want := files{}
	for name, mode := range kubernetesFiles() {
		want[strings.Replace(name, "/usr", "/usr/local", 1)] = mode
	}
	want["/usr/local/share/man/man8/locksmith-kubernetes.8"] = "-rw-r--r--"
	walk(t, root).compare(t, want)
	checkKubernetes(t, root, "/usr/local", elf.EM_AARCH64)
}

func TestDebianPackageForKubernetesHasEverything(t *testing.T) {
	b := kubernetesPackages(t)
	for arch, machine := range map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64} {
		deb := b.path("locksmith-kubernetes_" + versionOf(t) + "_" + arch + ".deb")
		const mode = "-rw-r--r--"
		listing(t, output(t, "dpkg-deb", "--contents", deb), ".").compare(t, kubernetesFiles().with(files{
			kubernetesManPath:                                   mode,
			kubernetesDocPath + "/copyright":                    mode,
			kubernetesDocPath + "/changelog.gz":                 mode,
			kubernetesDocPath + "/NEWS.gz":                      mode,
			kubernetesDocPath + "/NOTICES.gz":                   mode,
			"/usr/share/lintian/overrides/locksmith-kubernetes": mode,
		}))
		fields := output(t, "dpkg-deb", "--showformat=${Package} ${Version} ${Architecture} ${Depends}", "--show", deb)
		if want := "locksmith-kubernetes " + versionOf(t) + " " + arch + " locksmith (>= 0.8.0)"; fields != want {
			t.Errorf("the package is %q, want %q", fields, want)
		}
		root := t.TempDir()
		output(t, "dpkg-deb", "--extract", deb, root)
		checkKubernetes(t, root, "/usr", machine)
		checkNotices(t, output(t, "gzip", "-dc", root+kubernetesDocPath+"/NOTICES.gz"))
		if changelog := output(t, "gzip", "-dc", root+kubernetesDocPath+"/changelog.gz"); !strings.HasPrefix(changelog, "locksmith-kubernetes ("+versionOf(t)+") ") {
			t.Errorf("the changelog is of another package:\n%s", changelog)
		}
	}
}

func TestRPMPackageForKubernetesHasEverything(t *testing.T) {
	b := kubernetesPackages(t)
	for arch, machine := range map[string]elf.Machine{"x86_64": elf.EM_X86_64, "aarch64": elf.EM_AARCH64} {
		rpm := b.path("locksmith-kubernetes-" + versionOf(t) + "-1." + arch + ".rpm")
		query := func(format string) string {
			return output(t, "rpm", "--query", "--package", "--queryformat", format, rpm)
		}
		const mode = "-rw-r--r--"
		list := query("[%{FILEMODES:perms} %{FILEUSERNAME}/%{FILEGROUPNAME} - - - %{FILENAMES} -> %{FILELINKTOS}\n]")
		listing(t, strings.ReplaceAll(list, " -> \n", "\n"), "").compare(t, kubernetesFiles().with(files{
			kubernetesManPath:                                  mode,
			kubernetesDocPath + "/NEWS.gz":                     mode,
			kubernetesDocPath + "/NOTICES.gz":                  mode,
			"/usr/share/licenses/locksmith-kubernetes/LICENSE": mode,
		}))
		fields := query("%{NAME} %{VERSION}-%{RELEASE} %{ARCH} %{LICENSE} %{SUMMARY}; [%{REQUIRES} %{REQUIREFLAGS:depflags} %{REQUIREVERSION} ]")
		if want := "locksmith-kubernetes " + versionOf(t) + "-1 " + arch + " Apache-2.0 drains a Kubernetes node before a reboot by locksmith; locksmith >= 0.8.0 "; strings.Join(strings.Fields(fields), " ") != strings.TrimSpace(want) {
			t.Errorf("the package is %q, want %q", fields, want)
		}
		// Folders that other packages have are not in this one, also not locksmith's.
		for line := range strings.Lines(query("[%{FILEMODES:perms} %{FILENAMES}\n]")) {
			if name := strings.TrimSpace(line); strings.HasPrefix(name, "d") && (!strings.Contains(name, "/locksmith") || strings.HasSuffix(name, "/usr/lib/locksmith")) {
				t.Errorf("the package has the folder %s", name)
			}
		}
		root := t.TempDir()
		output(t, "rpm", "--root", root, "--nodeps", "--noscripts", "--ignorearch", "--install", rpm)
		checkKubernetes(t, root, "/usr", machine)
	}
}

func TestSystemExtensionForKubernetesHasEverything(t *testing.T) {
	b := kubernetesPackages(t)
	for architecture, machine := range map[string]elf.Machine{"x86-64": elf.EM_X86_64, "arm64": elf.EM_AARCH64} {
		tree := b.path("locksmith-kubernetes/locksmith-kubernetes-" + versionOf(t) + "-" + architecture)
		const mode, release = "-rw-r--r--", "/usr/lib/extension-release.d/extension-release.locksmith-kubernetes"
		want := kubernetesFiles().with(files{
			release:                        mode,
			kubernetesDocPath + "/LICENSE": mode,
			kubernetesDocPath + "/NOTICES": mode,
		})
		listing(t, output(t, "unsquashfs", "-lln", tree+".raw"), "squashfs-root").compare(t, want)
		walk(t, tree).compare(t, want)
		checkKubernetes(t, tree, "/usr", machine)
		text, err := os.ReadFile(tree + release)
		if want := "ID=flatcar\nSYSEXT_LEVEL=1.0\nARCHITECTURE=" + architecture + "\nEXTENSION_RELOAD_MANAGER=1\n"; err != nil || string(text) != want {
			t.Errorf("the extension release is %q (%v), want %q", text, err, want)
		}
		notices, err := os.ReadFile(tree + kubernetesDocPath + "/NOTICES")
		must.Do(t, err)
		checkNotices(t, string(notices))
	}
}

// systemd-sysupdate takes what it finds in the list, and locksmith-@v-%a.raw also matches the other extension.
func TestListsOfSystemExtensionsHaveOneExtensionEach(t *testing.T) {
	b := kubernetesPackages(t)
	for list, prefix := range map[string]string{"SHA256SUMS": "locksmith-", "locksmith-kubernetes/SHA256SUMS": "locksmith-kubernetes-"} {
		text, err := os.ReadFile(b.path(list))
		must.Do(t, err)
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		if len(lines) != 2 {
			t.Errorf("%s has %q, want an image of each architecture", list, lines)
		}
		for _, line := range lines {
			if _, name, _ := strings.Cut(line, "  "); !strings.HasPrefix(name, prefix+versionOf(t)+"-") {
				t.Errorf("%s has %s", list, name)
			}
		}
	}
}

// The two extensions are merged together. The tree is used that is beside the image.
func TestSystemExtensionForKubernetesIsMergedWithThatOfLocksmith(t *testing.T) {
	architecture := map[string]string{"amd64": "x86-64", "arm64": "arm64"}[runtime.GOARCH]
	b, root := kubernetesPackages(t), flatcar(t)
	for name, folder := range map[string]string{"locksmith": "", "locksmith-kubernetes": "locksmith-kubernetes/"} {
		must.Do(t, os.MkdirAll(filepath.Join(root, "etc/extensions"), 0o755))
		output(t, "cp", "-r", b.path(folder+name+"-"+versionOf(t)+"-"+architecture), filepath.Join(root, "etc/extensions", name))
	}
	out := inRoot(t, root, `
chroot . /usr/bin/systemd-sysext merge
echo "program: $(chroot . /usr/bin/locksmith-kubernetes --version)"
echo "daemon: $(chroot . /usr/lib/locksmith/locksmithd -version)"
cd usr/lib/systemd/system
grep -h ^ExecStart= locksmith-*.target.requires/*
`)
	for _, want := range []string{
		"Using extensions 'locksmith', 'locksmith-kubernetes'.",
		"program: locksmith-kubernetes version " + versionOf(t),
		"daemon: locksmithd version " + versionOf(t),
		"ExecStart=/usr/bin/locksmith-kubernetes uncordon\nExecStart=/usr/bin/locksmith-kubernetes drain\nExecStart=/usr/bin/locksmith-kubernetes uncordon --cancelled",
	} {
		if !strings.Contains(out, want+"\n") {
			t.Errorf("there is no line %q in:\n%s", want, out)
		}
	}
}

// kubernetesOnDebian runs a shell script in a copy of this machine's root, which has to be Debian's or a derivative's.
// The packages are /deb/locksmith.deb, /deb/old.deb and /deb/new.deb.
func kubernetesOnDebian(t *testing.T, script string) (string, error) {
	t.Helper()
	b, suffix := kubernetesPackages(t), "_"+versionOf(t)+"_"+strings.TrimSpace(output(t, "dpkg", "--print-architecture"))+".deb"
	const prepare = `
mkdir -p deb etc/flatcar
cp "$2" deb/locksmith.deb
cp "$3" deb/old.deb
dpkg-deb --raw-extract deb/old.deb deb/tree
sed -i 's/^Version: .*/Version: 99/' deb/tree/DEBIAN/control
dpkg-deb --root-owner-group -Znone --build deb/tree deb/new.deb > deb/log
rm -r deb/tree
echo REBOOT_STRATEGY=off > etc/flatcar/update.conf
chroot . sh -euc "$4"
`
	const functions = `
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
package() { dpkg --force-unsafe-io --no-triggers "$@" > /deb/log 2>&1 || { cat /deb/log; exit 1; }; }
hooked() { ls /usr/lib/systemd/system/locksmith-*.target.requires 2> /dev/null | grep -c kubernetes || true; }
dpkg --force-depends --force-unsafe-io --no-triggers -i /deb/locksmith.deb > /deb/log 2>&1
`
	return inCopy(t, prepare, b.path("locksmith"+suffix), b.path("locksmith-kubernetes"+suffix), functions+script)
}

func TestDebianPackageForKubernetesIsInstalledUpgradedAndRemoved(t *testing.T) {
	for _, test := range []struct{ name, script, want string }{
		{"it is hooked in, and the program runs", `
package -i /deb/old.deb
hooked
systemctl is-enabled locksmith-kubernetes-drain.service
locksmith-kubernetes --version
dpkg --verify locksmith-kubernetes
`, "3\nstatic\nlocksmith-kubernetes version VERSION\n"},
		{"it needs locksmith", `
dpkg --force-unsafe-io --force-depends --no-triggers -P locksmith > /deb/log 2>&1
dpkg --force-unsafe-io --no-triggers -i /deb/old.deb 2>&1 | grep -o 'depends on locksmith.*;'
`, "depends on locksmith (>= 0.8.0);\n"},
		{"an upgrade stays hooked in", `
package -i /deb/old.deb
package -i /deb/new.deb
hooked
dpkg --verify locksmith-kubernetes
`, "3\n"},
		{"a removed package is not hooked in, and locksmith stays", `
package -i /deb/old.deb
mkdir -p /etc/locksmith
echo LOCKSMITH_KUBERNETES_FLUO=true > /etc/locksmith/kubernetes.conf
package -r locksmith-kubernetes
hooked
ls /usr/lib/locksmith
cat /etc/locksmith/kubernetes.conf
`, "0\nlocksmith.conf\nlocksmithd\nLOCKSMITH_KUBERNETES_FLUO=true\n"},
		{"a purged package leaves nothing but the operator's settings", `
mkdir -p /etc/locksmith
echo LOCKSMITH_KUBERNETES_FLUO=true > /etc/locksmith/kubernetes.conf
touch /deb/before
package -i /deb/old.deb
package -P locksmith-kubernetes
find / -xdev -newer /deb/before \( -iname '*locksmith*kubernetes*' -o -lname '*locksmith*kubernetes*' -o -name 50-kubernetes \)
dpkg -s locksmith-kubernetes > /deb/log 2>&1 || echo unknown
cat /etc/locksmith/kubernetes.conf
`, "unknown\nLOCKSMITH_KUBERNETES_FLUO=true\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			out, err := kubernetesOnDebian(t, test.script)
			if want := strings.ReplaceAll(test.want, "VERSION", versionOf(t)); err != nil || out != want {
				t.Errorf("it says %q (%v), want %q", out, err, want)
			}
		})
	}
}

// kubernetesOnRPM runs a shell script as onRPM does, with the package of locksmith-kubernetes as $2.
func kubernetesOnRPM(t *testing.T, script string) (string, error) {
	t.Helper()
	arch := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	const functions = `
rm -rf var/lib/rpm
package() { rpm --root "$PWD" --nodeps "$@" > log 2>&1 && ! grep -i -e warning -e error log || { cat log; exit 1; }; }
`
	return inCopy(t, functions+script, kubernetesPackages(t).path("locksmith-kubernetes-"+versionOf(t)+"-1."+arch+".rpm"))
}

func TestRPMPackageForKubernetesIsInstalledAndRemoved(t *testing.T) {
	out, err := kubernetesOnRPM(t, `
mkdir -p usr/lib/locksmith etc/locksmith
touch usr/lib/locksmith/locksmithd etc/locksmith/kubernetes.conf before
package -i "$2"
chroot . systemctl is-enabled locksmith-kubernetes-drain.service
chroot . locksmith-kubernetes --version
rpm --root "$PWD" --verify --nodeps locksmith-kubernetes
package -e locksmith-kubernetes
find etc usr var -xdev -newer before \( -iname '*locksmith*kubernetes*' -o -lname '*locksmith*kubernetes*' \)
ls usr/lib/locksmith etc/locksmith
`)
	if want := "static\nlocksmith-kubernetes version " + versionOf(t) + "\netc/locksmith:\nkubernetes.conf\n\nusr/lib/locksmith:\nlocksmithd\n"; err != nil || out != want {
		t.Errorf("it says %q (%v), want %q", out, err, want)
	}
}

// This checks the commands of the scripts. Those of the RPM package get the number of versions that are left.
func TestScriptsForKubernetesCallARunningSystemd(t *testing.T) {
	realpart.Must(t, realpart.Root("mounts"))
	const (
		reload = "--system daemon-reload\n"
		undo   = "--system stop locksmith-kubernetes-drain.service locksmith-kubernetes-uncordon.service\n" +
			"--system start locksmith-kubernetes-undrain.service\n" +
			"locksmith-kubernetes: no drain could be undone: if this host is a node, it may be cordoned; kubectl uncordon NODE takes it back\n"
		forget = "--system reset-failed locksmith-kubernetes-*.service\n"
	)
	for _, test := range []struct{ script, args, want string }{
		{"deb/postinst", "configure", reload},
		{"deb/postinst", "configure 0.8.0", reload},
		{"deb/prerm", "remove", undo},
		{"deb/prerm", "upgrade 0.9.0", ""},
		{"deb/postrm", "remove", forget + reload},
		{"deb/postrm", "upgrade 0.9.0", reload},
		{"deb/postrm", "purge", reload},
		{"rpm/post", "1", reload},
		{"rpm/post", "2", reload},
		{"rpm/preun", "0", undo},
		{"rpm/preun", "1", ""},
		{"rpm/postun", "0", forget + reload},
		{"rpm/postun", "1", reload},
	} {
		for running, want := range map[string]string{"mkdir -p /run/systemd/system": test.want, "true": ""} {
			t.Run(test.script+" "+test.args+" "+running, func(t *testing.T) {
				script, err := filepath.Abs(filepath.Join("locksmith-kubernetes", test.script))
				must.Do(t, err)
				bin := t.TempDir()
				// It fails, as with an API server that is down: the package must not fail.
				must.Do(t, os.WriteFile(filepath.Join(bin, "systemctl"), []byte("#!/bin/sh\necho \"$*\"\nexit 1\n"), 0o755))
				cmd := exec.Command("unshare", append([]string{"--mount", "sh", "-c",
					`mount -t tmpfs tmpfs /run && ` + running + ` && exec "$@"`, "sh", script}, strings.Fields(test.args)...)...)
				cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
				if out, err := cmd.CombinedOutput(); err != nil || string(out) != want {
					t.Errorf("it runs %q (%v), want %q", out, err, want)
				}
			})
		}
	}
}

// TestPackageForKubernetesIsHookedIntoARealSystemd boots systemd in a container with the content of both packages. Nothing
// is enabled there, and the host is not a node.
func TestPackageForKubernetesIsHookedIntoARealSystemd(t *testing.T) {
	if nspawntest.Inside() {
		hostThatIsNoNode(t)
		return
	}
	nspawntest.Require(t)
	b, m := kubernetesPackages(t), nspawntest.New(t, "/")
	for _, name := range []string{"locksmith", "locksmith-kubernetes"} {
		deb := b.path(name + "_" + versionOf(t) + "_" + strings.TrimSpace(output(t, "dpkg", "--print-architecture")) + ".deb")
		output(t, "dpkg-deb", "--extract", deb, filepath.Dir(filepath.Clean(m.Path("/usr/"))))
		output(t, "dpkg-deb", "--control", deb, m.Path("/scripts-of-"+name))
	}
	m.RunTest()
}

func hostThatIsNoNode(t *testing.T) {
	command := func(name string, args ...string) string {
		out, err := exec.Command(name, args...).CombinedOutput()
		if err != nil {
			return string(out) + err.Error()
		}
		return strings.Join(strings.Fields(string(out)), " ")
	}
	hooks := command("locksmithctl", "hooks")
	for phase, unit := range kubernetesUnits() {
		target := "locksmith-" + phase + ".target"
		if requires := command("systemctl", "show", "--value", "--property=Requires", target); !strings.Contains(requires, unit) {
			t.Errorf("%s requires %q, not %s", target, requires, unit)
		}
		if want := phase + " - " + unit + " " + target + " -"; !strings.Contains(hooks, want) {
			t.Errorf("there is no %q in %q", want, hooks)
		}
	}
	if want := "may-reboot 1 50-kubernetes " + mayRebootPath + " -"; !strings.Contains(hooks, want) {
		t.Errorf("there is no %q in %q", want, hooks)
	}
	// Every phase fails, and says what to do. All read the file of settings.
	phases := append(slices.Collect(maps.Keys(kubernetesUnits())), "may-reboot")
	says := func(want string) {
		t.Helper()
		for _, phase := range phases {
			if out := command("locksmithctl", "hooks", "run", phase); !strings.Contains(out, want) || !strings.Contains(out, "exit status 1") {
				t.Errorf("%s says %q, want %q", phase, out, want)
			}
		}
	}
	says("there is no kubeconfig of a kubelet: set LOCKSMITH_KUBERNETES_KUBECONFIG in /etc/locksmith/kubernetes.conf, or remove locksmith-kubernetes from a host that is not a node")
	must.Do(t, os.MkdirAll("/etc/locksmith", 0o755))
	must.Do(t, os.WriteFile("/etc/locksmith/kubernetes.conf", []byte("LOCKSMITH_KUBERNETES_KUBECONFIG=/etc/cluster.conf\n"), 0o644))
	says("kubeconfig /etc/cluster.conf: no such file or directory")

	// A removal undoes a drain, and leaves no failed unit.
	const undrain = "locksmith-kubernetes-undrain.service"
	must.Do(t, exec.Command("systemctl", "reset-failed").Run())
	if out := command("/scripts-of-locksmith-kubernetes/prerm", "remove"); !strings.Contains(out, "no drain could be undone") {
		t.Errorf("prerm says %q", out)
	}
	if state := command("systemctl", "show", "--value", "--property=ActiveState", undrain); state != "failed" {
		t.Errorf("prerm leaves %s %s, not failed", undrain, state)
	}
	if out := command("/scripts-of-locksmith-kubernetes/postrm", "remove"); out != "" {
		t.Errorf("postrm says %q", out)
	}
	if state := command("systemctl", "show", "--value", "--property=ActiveState", undrain); state != "inactive" {
		t.Errorf("postrm leaves %s %s", undrain, state)
	}
}
