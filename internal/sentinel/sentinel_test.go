package sentinel

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/test/must"
)

// newFile returns a file that does not exist yet.
func newFile(t testing.TB) File {
	return File{Path: filepath.Join(t.TempDir(), "reboot-required"), Settle: Settle}
}

func (f File) write(t testing.TB, text string) {
	t.Helper()
	must.Do(t, os.WriteFile(f.Path, []byte(text), 0o644))
}

func TestReasonIsWhatTheFilesSay(t *testing.T) {
	const ubuntu = "*** System restart required ***\n"
	for _, test := range []struct{ text, packages, want string }{
		{"", "", "FILE"},
		{ubuntu, "", "FILE: *** System restart required ***"},
		{"", "linux-image-6.1.0-28-amd64\n", "FILE (linux-image-6.1.0-28-amd64)"},
		{ubuntu, "libc6\ndbus\n\nlibc6\n", "FILE: *** System restart required *** (libc6, dbus)"},
		{"two\nlines", "a  b", "FILE: two lines (a b)"},
		{"\x1b[2Jcleared", "\x00", "FILE: \\x1b[2Jcleared (\\x00)"},
	} {
		f := newFile(t)
		f.write(t, test.text)
		if test.packages != "" {
			must.Do(t, os.WriteFile(f.Path+".pkgs", []byte(test.packages), 0o644))
		}
		want := State{Needed: true, Reason: strings.ReplaceAll(test.want, "FILE", f.Path), Kernel: strings.Contains(test.want, "linux-")}
		if got := f.Read(); got != want {
			t.Errorf("%q, %q: got %+v, want %+v", test.text, test.packages, got, want)
		}
	}
}

func TestLongTextsAreCut(t *testing.T) {
	f := newFile(t)
	f.write(t, "")
	must.Do(t, os.Truncate(f.Path, 1<<30))
	must.Do(t, os.WriteFile(f.Path+".pkgs", []byte(strings.Repeat("linux-image\nlibc6\n", 1<<16)), 0o644))
	if got := f.Read(); !got.Needed || len(got.Reason) > maxReason+10 || !strings.HasPrefix(got.Reason, f.Path) {
		t.Errorf("got %.1000v", got)
	}
}

func TestOnlyARegularFileNeedsAReboot(t *testing.T) {
	for name, create := range map[string]func(path string) error{
		"nothing":       func(string) error { return nil },
		"directory":     func(path string) error { return os.Mkdir(path, 0o755) },
		"fifo":          func(path string) error { return syscall.Mkfifo(path, 0o644) },
		"dangling link": func(path string) error { return os.Symlink("nowhere", path) },
		"loop":          func(path string) error { return os.Symlink(path, path) },
		"device":        func(path string) error { return os.Symlink("/dev/null", path) },
	} {
		f := newFile(t)
		must.Do(t, create(f.Path))
		got := f.Read()
		absent := name == "nothing" || name == "dangling link"
		if got.Needed || (got.Err == nil) != absent || got.Err != nil && !strings.Contains(got.Err.Error(), f.Path) {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}

func TestUnreadableFileNeedsAReboot(t *testing.T) {
	f := newFile(t)
	f.write(t, "secret")
	must.Do(t, os.Chmod(f.Path, 0))
	if got := f.Read(); !got.Needed || got.Err != nil {
		t.Errorf("got %+v", got)
	}
}

func TestNeedSettles(t *testing.T) {
	f := newFile(t)
	f.write(t, "")
	list := f.Path + ".pkgs"
	must.Do(t, os.WriteFile(list, nil, 0o644))
	now := time.Now()
	for _, test := range []struct {
		file, list time.Duration // ago
		wait       time.Duration // 0: it has settled
	}{
		{0, time.Hour, Settle}, {time.Hour, 10 * time.Second, Settle - 10*time.Second}, {time.Hour, time.Hour, 0}, {Settle, Settle, 0},
		{-time.Hour, 0, Settle}, // the clock was set back
	} {
		must.Do(t, os.Chtimes(f.Path, time.Time{}, now.Add(-test.file)))
		must.Do(t, os.Chtimes(list, time.Time{}, now.Add(-test.list)))
		got, wait := f.settled(now, false)
		if got.Needed != (test.wait == 0) || wait.Round(time.Millisecond) != test.wait {
			t.Errorf("%+v: got %+v, wait for %v", test, got, wait)
		}
		// A need that was reported stands while packages add to it.
		if got, wait := f.settled(now, true); !got.Needed || wait != 0 {
			t.Errorf("%+v: once reported, got %+v, wait for %v", test, got, wait)
		}
	}
}

// /run outlives a soft reboot, and so does the file.
func TestFileFromBeforeTheSoftRebootIsDoneIfThatWasEnough(t *testing.T) {
	since := time.Now().Add(-time.Hour)
	before := since.Add(-time.Second)
	const done = "does not count, because it is from before the last soft reboot"
	for _, test := range []struct {
		name, text, packages string
		changed, listed      time.Time // the latter is of the packages
		soft                 bool
		needed, kernel       bool
	}{
		{"what it needs is not said", "", "", before, before, true, false, false},
		{"and a full reboot would follow", "", "", before, before, false, true, false},
		{"after it", "", "", since, before, true, true, false},
		{"packages", "", "libc6\ndbus\n", before, before, true, false, false},
		{"another package after it", "", "libc6\ndbus\n", before, since, true, true, false},
		{"a kernel", "", "libc6\nlinux-image-6.1.0-28-amd64\n", before, before, true, true, true},
		{"another distribution's", "", "proxmox-kernel-6.8\n", before, before, true, true, true},
		{"microcode", "", "intel-microcode\n", before, before, true, true, true},
		{"a kernel after it", "", "linux-image-6.1.0-28-amd64\n", since, since, true, true, true},
		{"SUSE's", "soft-reboot", "", before, before, false, false, false},
		{"SUSE's, after it", "soft-reboot", "", since, before, false, true, false},
		{"SUSE's for a kernel", "kexec\n", "", before, before, true, true, true},
		{"SUSE's for a full reboot", "reboot", "", before, before, true, true, true},
	} {
		f := newFile(t)
		for file, change := range map[string]struct {
			text string
			at   time.Time
		}{f.Path: {test.text, test.changed}, packages(f.Path): {test.packages, test.listed}} {
			must.Do(t, os.WriteFile(file, []byte(change.text), 0o600))
			must.Do(t, os.Chtimes(file, change.at, change.at))
		}
		f.Soft = test.soft
		if s := f.Read(); !s.Needed || s.Kernel != test.kernel || s.Soft != (test.text == "soft-reboot") || s.Err != nil || s.Done != nil {
			t.Errorf("%s: without a soft reboot it is %+v", test.name, s)
		}
		f.Since = since
		s := f.Read()
		if s.Needed != test.needed || s.Kernel != test.kernel || s.Err != nil || (s.Done == nil) != test.needed {
			t.Errorf("%s: it is %+v", test.name, s)
		}
		if s.Done != nil && !strings.Contains(s.Done.Error(), f.Path+" "+done) {
			t.Errorf("%s: it says %v", test.name, s.Done)
		}
	}
}
