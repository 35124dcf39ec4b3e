package packaging

import (
	"debug/elf"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/internal/config"
	"github.com/locksmithd/locksmith/test/contains"
	"github.com/locksmithd/locksmith/test/must"
)

// The paths that hosts expect.
const (
	daemonPath = "/usr/lib/locksmith/locksmithd"
	cliPath    = "/usr/bin/locksmithctl"
	unitPath   = "/usr/lib/systemd/system/locksmithd.service"
	policyPath = "/usr/share/dbus-1/system.d/io.github.locksmithd.Locksmith1.conf" // of the bus

	catalogPath  = "/usr/lib/systemd/catalog/locksmith.catalog"
	settingsPath = "/usr/lib/locksmith/locksmith.conf" // of the packages, not of the system extension
)

// startedUnits are the units that the daemon starts.
var startedUnits = []string{
	"locksmith-before-reboot.target", "locksmith-reboot-cancelled.target", "locksmith-after-reboot.target",
	"locksmith-before-reboot.service", "locksmith-reboot-cancelled.service", "locksmith-after-reboot.service", "locksmith-may-reboot.service",
	"locksmith-sentinel.service", "locksmith-notify@.service",
}

// serverUnits run `locksmithctl serve`.
var serverUnits = []string{"locksmith-serve.service", "locksmith-serve.socket"}

// files are paths with their modes, such as "-rwxr-xr-x", or with the targets of symbolic links, such as "-> ../x".
// Directories are left out.
type files map[string]string

func required() files {
	all := files{daemonPath: "-rwxr-xr-x", cliPath: "-rwxr-xr-x", unitPath: "-rw-r--r--", catalogPath: "-rw-r--r--", policyPath: "-rw-r--r--"}
	for _, name := range slices.Concat(startedUnits, serverUnits) {
		all[filepath.Join(filepath.Dir(unitPath), name)] = "-rw-r--r--"
	}
	return all
}

// examples returns the ready examples: programs for hooks, and data for Prometheus and Grafana.
func examples(t *testing.T) files {
	t.Helper()
	entries, err := os.ReadDir("examples")
	must.Do(t, err)
	found := files{}
	for _, entry := range entries {
		mode := "-rwxr-xr-x"
		if ext := filepath.Ext(entry.Name()); ext == ".yaml" || ext == ".json" {
			mode = "-rw-r--r--"
		}
		found["/usr/share/doc/locksmith/examples/"+entry.Name()] = mode
	}
	return found
}

// shared returns the files below /usr/share. The names of manual pages end in suffix.
func shared(suffix string) files {
	const mode = "-rw-r--r--"
	return files{
		"/usr/share/man/man1/locksmithctl.1" + suffix:            mode,
		"/usr/share/man/man5/update.conf.5" + suffix:             mode,
		"/usr/share/man/man8/locksmithd.8" + suffix:              mode,
		"/usr/share/bash-completion/completions/locksmithctl":    mode,
		"/usr/share/zsh/vendor-completions/_locksmithctl":        mode,
		"/usr/share/fish/vendor_completions.d/locksmithctl.fish": mode,
	}
}

func (f files) with(others ...files) files {
	all := maps.Clone(f)
	for _, o := range others {
		maps.Copy(all, o)
	}
	return all
}

func (f files) compare(t *testing.T, want files) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(f.with(want))) {
		if f[name] != want[name] {
			t.Errorf("%s is %q, want %q", name, f[name], want[name])
		}
	}
}

// listing parses the output of `dpkg-deb --contents`, `unsquashfs -lln`, and rpm in the same form. It checks
// that everything belongs to root, and that every user can enter the directories.
func listing(t *testing.T, out, prefix string) files {
	t.Helper()
	got := files{}
	for line := range strings.Lines(out) {
		line, target, isLink := strings.Cut(strings.TrimSpace(line), " -> ")
		fields := strings.Fields(line)
		if len(fields) != 6 || isLink != strings.HasPrefix(line, "l") {
			t.Fatalf("malformed line of the listing: %q", line)
		}
		mode, owner, name := fields[0], fields[1], strings.TrimPrefix(fields[5], prefix)
		if isLink {
			mode = "-> " + target
		}
		if owner != "root/root" && owner != "0/0" {
			t.Errorf("%s belongs to %s, want root", name, owner)
		}
		if !strings.HasPrefix(mode, "d") {
			got[name] = mode
		} else if mode != "drwxr-xr-x" {
			t.Errorf("%s is %s, want drwxr-xr-x", name, mode)
		}
	}
	return got
}

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("run %s: %v\n%s", name, err, out)
	}
	return string(out)
}

// walk lists the files below a directory.
func walk(t *testing.T, dir string) files {
	t.Helper()
	got := files{}
	if err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if info.Mode()&fs.ModeSymlink != 0 {
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			got[strings.TrimPrefix(path, dir)] = "-> " + target
		} else if !entry.IsDir() {
			got[strings.TrimPrefix(path, dir)] = info.Mode().String()
		} else if path != dir && info.Mode().Perm() != 0o755 {
			t.Errorf("%s has the mode %v, want 0755", path, info.Mode())
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return got
}

// checkPrograms checks the programs and the units below root.
func checkPrograms(t *testing.T, root, prefix string, machine elf.Machine) {
	t.Helper()
	for _, name := range []string{daemonPath, cliPath} {
		name = strings.Replace(name, "/usr", prefix, 1)
		file, err := elf.Open(root + name)
		must.Do(t, err)
		defer file.Close()
		if file.Machine != machine {
			t.Errorf("%s is for %v, want %v", name, file.Machine, machine)
		}
		if slices.ContainsFunc(file.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
			t.Errorf("%s needs libraries of the host", name)
		}
	}
	for _, name := range slices.Concat(startedUnits, serverUnits, []string{filepath.Base(unitPath)}) {
		program := cliPath
		switch {
		case strings.HasSuffix(name, ".target"), strings.HasSuffix(name, ".socket"):
			continue
		case name == filepath.Base(unitPath):
			program = daemonPath
		}
		unit, err := os.ReadFile(filepath.Join(root+strings.Replace(filepath.Dir(unitPath), "/usr", prefix, 1), name))
		must.Do(t, err)
		want := "\nExecStart=" + strings.Replace(program, "/usr", prefix, 1)
		if _, after, found := strings.Cut(string(unit), want); strings.Count(string(unit), "ExecStart=") != 1 || !found || !strings.ContainsAny(after[:1], " \n") {
			t.Errorf("%s does not have a line that begins with %q:\n%s", name, strings.TrimSpace(want), unit)
		}
	}
}

func TestMakeInstallPutsEverythingWhereHostsLookForIt(t *testing.T) {
	b := packages(t)
	for prefix, machine := range map[string]struct {
		arch string
		elf  elf.Machine
	}{"/usr": {"arm64", elf.EM_AARCH64}, "/usr/local": {"amd64", elf.EM_X86_64}} {
		root := t.TempDir()
		install := fmt.Sprintf("umask 0077; make --old-file=all --old-file=bin/share install ARCH=%s DESTDIR=%s PREFIX=%s", machine.arch, root, prefix)
		must.Do(t, b.run(nil, "sh", "-c", install))
		want := files{}
		for name, mode := range required().with(shared(""), examples(t)) {
			want[strings.Replace(name, "/usr", prefix, 1)] = mode
		}
		walk(t, root).compare(t, want)
		checkPrograms(t, root, prefix, machine.elf)
	}
}

func TestDebianPackageHasEverything(t *testing.T) {
	b := packages(t)
	for arch, machine := range map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64} {
		deb := b.path("locksmith_" + versionOf(t) + "_" + arch + ".deb")
		const mode = "-rw-r--r--"
		listing(t, output(t, "dpkg-deb", "--contents", deb), ".").compare(t, required().with(shared(".gz"), examples(t), files{
			"/usr/share/doc/locksmith/copyright":     mode,
			"/usr/share/doc/locksmith/changelog.gz":  mode,
			"/usr/share/doc/locksmith/NEWS.gz":       mode,
			"/usr/share/doc/locksmith/NOTICES.gz":    mode,
			"/usr/share/lintian/overrides/locksmith": mode,
			settingsPath:                             mode,
		}))
		fields := output(t, "dpkg-deb", "--showformat=${Package} ${Version} ${Architecture}", "--show", deb)
		if want := "locksmith " + versionOf(t) + " " + arch; fields != want {
			t.Errorf("the package is %q, want %q", fields, want)
		}
		root := t.TempDir()
		output(t, "dpkg-deb", "--extract", deb, root)
		checkPrograms(t, root, "/usr", machine)
		checkSettings(t, root, "/run/reboot-required", "")
	}
}

func TestRPMPackageHasEverything(t *testing.T) {
	b := packages(t)
	for arch, machine := range map[string]elf.Machine{"x86_64": elf.EM_X86_64, "aarch64": elf.EM_AARCH64} {
		rpm := b.path("locksmith-" + versionOf(t) + "-1." + arch + ".rpm")
		query := func(format string) string {
			return output(t, "rpm", "--query", "--package", "--queryformat", format, rpm)
		}
		const mode = "-rw-r--r--"
		want := required().with(shared(".gz"), examples(t), files{
			"/usr/share/doc/locksmith/NEWS.gz":            mode,
			"/usr/share/doc/locksmith/NOTICES.gz":         mode,
			"/usr/share/licenses/locksmith/LICENSE":       mode,
			"/usr/share/zsh/site-functions/_locksmithctl": mode,
			settingsPath: mode,
		})
		delete(want, "/usr/share/zsh/vendor-completions/_locksmithctl")
		listing(t, query("[%{FILEMODES:perms} %{FILEUSERNAME}/%{FILEGROUPNAME} - - - %{FILENAMES}\n]"), "").compare(t, want)
		fields := query("%{NAME} %{VERSION}-%{RELEASE} %{ARCH} %{OS} %{LICENSE} %{BUILDHOST} %{BUILDTIME} [%{REQUIRES} ][%{RECOMMENDS} ]")
		if want := "locksmith " + versionOf(t) + "-1 " + arch + " linux Apache-2.0 localhost " + commitDate + " systemd ca-certificates dnf-command(needs-restarting) "; fields != want {
			t.Errorf("the package is %q, want %q", fields, want)
		}
		if text := query("%{SUMMARY}\n%{DESCRIPTION}"); !strings.HasPrefix(text, "reboot manager for fleets of hosts that update themselves\nHosts that update themselves have to reboot, ") ||
			strings.Contains(text, "\n .") || !strings.Contains(text, "\n\nOn each host locksmithd ") {
			t.Errorf("its description is\n%s", text)
		}
		// Whoever installs without documentation gets no manual pages, but the licence.
		if flags := query("[%{FILEFLAGS:fflags} %{FILENAMES}\n]"); !contains.All(flags, "d /usr/share/doc/locksmith/NEWS.gz\n", "d /usr/share/man/man8/locksmithd.8.gz\n", "l /usr/share/licenses/locksmith/LICENSE\n") {
			t.Errorf("its documentation and licence are not marked:\n%s", flags)
		}
		// Folders that other packages have are not in this one.
		for name := range strings.Lines(query("[%{FILEMODES:perms} %{FILENAMES}\n]")) {
			if strings.HasPrefix(name, "d") && !strings.Contains(name, "/locksmith") {
				t.Errorf("the package has the folder %s", name)
			}
		}
		root := t.TempDir()
		output(t, "rpm", "--root", root, "--nodeps", "--noscripts", "--ignorearch", "--install", rpm)
		checkPrograms(t, root, "/usr", machine)
		checkSettings(t, root, "", "needs-restarting")
	}
}

// checkSettings checks what a package with this root sets: the host is not rebooted, and says that it was not asked
// for.
func checkSettings(t *testing.T, root, sentinel, command string) {
	t.Helper()
	hook := filepath.Join(root, "etc/kernel/postinst.d/unattended-upgrades") // else there is a warning that nothing writes the file
	must.Do(t, os.MkdirAll(filepath.Dir(hook), 0o755))
	must.Do(t, os.WriteFile(hook, nil, 0o755))
	c, err := config.Load(config.Options{Program: config.Daemon, Root: root})
	must.Do(t, err)
	if c.Strategy != config.StrategyOff || c.StrategySet {
		t.Errorf("the strategy is %q, chosen: %v", c.Strategy, c.StrategySet)
	}
	if c.Sentinel != sentinel || c.SentinelCommand != command || len(c.Warnings) > 0 {
		t.Errorf("the sentinel is %q and %q, want %q and %q; warnings: %q", c.Sentinel, c.SentinelCommand, sentinel, command, c.Warnings)
	}
}

func TestSystemExtensionHasEverything(t *testing.T) {
	b := packages(t)
	for architecture, machine := range map[string]elf.Machine{"x86-64": elf.EM_X86_64, "arm64": elf.EM_AARCH64} {
		tree := b.path("locksmith-" + versionOf(t) + "-" + architecture)
		const mode = "-rw-r--r--"
		want := required().with(examples(t), files{
			"/usr/lib/extension-release.d/extension-release.locksmith": mode,
			"/usr/share/doc/locksmith/LICENSE":                         mode,
			"/usr/share/doc/locksmith/NOTICES":                         mode,
		})
		listing(t, output(t, "unsquashfs", "-lln", tree+".raw"), "squashfs-root").compare(t, want)
		walk(t, tree).compare(t, want)
		checkPrograms(t, tree, "/usr", machine)
		release, err := os.ReadFile(tree + "/usr/lib/extension-release.d/extension-release.locksmith")
		if want := "ID=flatcar\nSYSEXT_LEVEL=1.0\nARCHITECTURE=" + architecture + "\nEXTENSION_RELOAD_MANAGER=1\n"; err != nil || string(release) != want {
			t.Errorf("the extension release is %q (%v), want %q", release, err, want)
		}
		// A directory would hide a symbolic link of the host: only directories are allowed
		// that are directories on Flatcar, too.
		for _, dir := range []string{"", "usr", "usr/lib"} {
			entries, err := os.ReadDir(filepath.Join(tree, dir))
			must.Do(t, err)
			for _, entry := range entries {
				if known := []string{"usr", "bin", "lib", "share", "extension-release.d", "locksmith", "systemd"}; !slices.Contains(known, entry.Name()) {
					t.Errorf("the extension has %s in /%s", entry.Name(), dir)
				}
			}
		}
	}
}
