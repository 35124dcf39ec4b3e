package hooks

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/realpart"
)

func TestScriptsAreInTheOrderOfTheirNamesAndTheStrongestFolderWins(t *testing.T) {
	h := newHost(t)
	h.script("/usr/lib/locksmith/before-reboot.d/10-a", "")
	h.script("/usr/lib/locksmith/before-reboot.d/20-b", "")
	h.script("/usr/lib/locksmith/before-reboot.d/30-c", "")
	h.script("/run/locksmith/before-reboot.d/20-b", "")
	h.script("/run/locksmith/before-reboot.d/05-z", "")
	h.script("/etc/locksmith/before-reboot.d/20-b", "")
	h.link("/etc/locksmith/before-reboot.d/30-c", "/dev/null")
	h.script("/etc/locksmith/after-reboot.d/00-other-phase", "")
	got, err := Scripts(h.root, BeforeReboot)
	must.Do(t, err)
	usr, run, etc := h.path("/usr/lib/locksmith/before-reboot.d/"), h.path("/run/locksmith/before-reboot.d/"), h.path("/etc/locksmith/before-reboot.d/")
	want := []Script{
		{Name: "05-z", Path: run + "/05-z"},
		{Name: "10-a", Path: usr + "/10-a"},
		{Name: "20-b", Path: etc + "/20-b", Hides: []string{run + "/20-b", usr + "/20-b"}},
		{Name: "30-c", Path: etc + "/30-c", Masked: true, Hides: []string{usr + "/30-c"}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the scripts are\n%+v\nwant\n%+v", got, want)
	}
}

func TestNoFoldersAreNoScripts(t *testing.T) {
	for _, p := range Phases() {
		if got, err := Scripts(t.TempDir(), p); len(got) > 0 || err != nil {
			t.Errorf("%s has %v (%v)", p, got, err)
		}
	}
}

func TestLeftoversOfEditorsAndPackagesAreNoScripts(t *testing.T) {
	h := newHost(t)
	for _, name := range []string{".hidden", "10-a~", "10-a.dpkg-dist", "10-a.dpkg-new", "10-a.rpmsave", "10-a.swp", "10-a.bak", "lost+found"} {
		h.script("/etc/locksmith/may-reboot.d/"+name, "")
	}
	h.script("/usr/lib/locksmith/may-reboot.d/10-a.sh", "")
	got, err := Scripts(h.root, MayReboot)
	if err != nil || len(got) != 1 || got[0].Name != "10-a.sh" {
		t.Errorf("the scripts are %+v (%v), want 10-a.sh", got, err)
	}
}

func TestScriptThatCannotRunIsNamedWithItsProblem(t *testing.T) {
	for _, test := range []struct {
		name, want string // PATH stands for the script's path
		make       func(h host, name string)
	}{
		{"not executable", "it is not executable: chmod +x PATH", func(h host, name string) { h.write(name, "#!/bin/sh\n", 0o644) }},
		{"a directory", "it is a directory, not a file", func(h host, name string) { must.Do(h, os.MkdirAll(h.path(name), 0o755)) }},
		{"a pipe", "it is not a regular file", func(h host, name string) { must.Do(h, unix.Mkfifo(h.path(name), 0o755)) }},
		{"a link to nothing", "it is a link to /none, which does not exist", func(h host, name string) { h.link(name, "/none") }},
		{"a link to itself", "it cannot be looked at: too many levels of symbolic links", func(h host, name string) { h.link(name, filepath.Base(name)) }},
		{"empty", "it has no interpreter: its first line has to be one such as #!/bin/sh", func(h host, name string) { h.write(name, "", 0o755) }},
		{"no first line", "it has no interpreter: its first line has to be one such as #!/bin/sh", func(h host, name string) { h.write(name, "echo\n", 0o755) }},
		{"an empty first line", "it has no interpreter: its first line has to be one such as #!/bin/sh", func(h host, name string) { h.write(name, "#! \n", 0o755) }},
		{"a missing interpreter", `its interpreter "/bin/none" does not exist`, func(h host, name string) { h.write(name, "#! /bin/none -e\n", 0o755) }},
		{"written on Windows", `its interpreter "/bin/sh\r" does not exist`, func(h host, name string) { h.write(name, "#!/bin/sh\r\nexit\r\n", 0o755) }},
		{"one that can run", "", func(h host, name string) { h.write(name, "#!\t/bin/sh\t-e\n", 0o755) }},
		{"a program", "", func(h host, name string) { h.link(name, "/proc/self/exe") }},
		{"an interpreter below root", "", func(h host, name string) {
			h.write("/opt/interpreter", "", 0o755)
			h.write(name, "#!/opt/interpreter\n", 0o755)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHost(t)
			const name = "/etc/locksmith/before-reboot.d/10-a"
			must.Do(t, os.MkdirAll(filepath.Dir(h.path(name)), 0o755))
			test.make(h, name)
			got, err := Scripts(h.root, BeforeReboot)
			must.Do(t, err)
			if want := strings.ReplaceAll(test.want, "PATH", h.path(name)); len(got) != 1 || got[0].Problem != want {
				t.Errorf("the scripts are %+v, want the problem %q", got, want)
			}
		})
	}
}

// Debian mounts /run so.
func TestScriptOnAFileSystemWithoutExecutionIsNamed(t *testing.T) {
	realpart.Must(t, realpart.Root("a mount"))
	h := newHost(t)
	h.script("/run/locksmith/before-reboot.d/10-a", "")
	folder := h.path("/run/locksmith/before-reboot.d")
	must.Do(t, unix.Mount(folder, folder, "", unix.MS_BIND, ""))
	t.Cleanup(func() { must.Do(t, unix.Unmount(folder, 0)) })
	must.Do(t, unix.Mount("", folder, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_NOEXEC, ""))
	got, err := Scripts(h.root, BeforeReboot)
	must.Do(t, err)
	if want := "its file system is mounted noexec: put it into /etc or /usr/lib"; len(got) != 1 || got[0].Problem != want {
		t.Errorf("the scripts are %+v, want the problem %q", got, want)
	}
}

func TestFolderThatCannotBeListedIsAnError(t *testing.T) {
	h := newHost(t)
	h.write("/etc/locksmith/before-reboot.d", "", 0o644)
	if got, err := Scripts(h.root, BeforeReboot); err == nil || !strings.Contains(err.Error(), h.path("/etc/locksmith/before-reboot.d")+": not a directory") {
		t.Errorf("a file for a folder: %v (%v)", got, err)
	}
	for i := range maxNames + 1 {
		h.write(fmt.Sprintf("/etc/locksmith/after-reboot.d/%d", i), "", 0o644)
	}
	if got, err := Scripts(h.root, AfterReboot); err == nil || !strings.Contains(err.Error(), "has more than 1000 files") {
		t.Errorf("a folder with too many files: %v (%v)", got, err)
	}
}

func TestPhasesHaveNames(t *testing.T) {
	for _, p := range Phases() {
		if got, err := ParsePhase(string(p)); got != p || err != nil {
			t.Errorf("%s is read as %q (%v)", p, got, err)
		}
	}
	_, err := ParsePhase("before")
	if want := `unknown phase "before": write may-reboot, before-reboot, reboot-cancelled or after-reboot`; err == nil || err.Error() != want {
		t.Errorf("the error is %v, want %s", err, want)
	}
}
