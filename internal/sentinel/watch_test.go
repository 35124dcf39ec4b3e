package sentinel

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/realpart"
)

const patience = 20 * time.Second

// watched is a Watch of a file.
type watched struct {
	testing.TB
	File
	states <-chan State
}

// watch watches a file that settles at once, and expects that it says nothing.
func watch(t testing.TB, f File) watched {
	t.Helper()
	f.Settle = 0
	states, err := f.Watch(t.Context())
	must.Do(t, err)
	w := watched{t, f, states}
	w.expect("")
	return w
}

// expect waits until the last state is that a reboot is needed for a reason without the path, "" for no need, or an
// error.
func (w watched) expect(want string) {
	w.Helper()
	deadline := time.After(patience)
	for {
		select {
		case s := <-w.states:
			got := strings.TrimPrefix(s.Reason, w.Path)
			if s.Needed && got == "" {
				got = "needed"
			}
			if s.Err != nil {
				got = s.Err.Error()
			}
			if got == want || want == "error" && s.Err != nil {
				return
			}
		case <-deadline:
			w.Fatalf("%q is not reported", want)
		}
	}
}

func TestEveryChangeIsReported(t *testing.T) {
	w := watch(t, newFile(t))
	w.write(t, "")
	w.expect("needed")
	must.Do(t, os.WriteFile(w.Path+".pkgs", []byte("libc6"), 0o644))
	w.expect(" (libc6)")
	w.write(t, "again")
	w.expect(": again (libc6)")
	must.Do(t, os.Remove(w.Path+".pkgs"))
	w.expect(": again")
	must.Do(t, os.Remove(w.Path))
	w.expect("")

	other := w.Path + ".other"
	must.Do(t, os.WriteFile(other, []byte("replaced"), 0o644))
	must.Do(t, os.Rename(other, w.Path))
	w.expect(": replaced")
	must.Do(t, os.Rename(w.Path, other))
	w.expect("")
	must.Do(t, os.Mkdir(w.Path, 0o755))
	w.expect("error")
	must.Do(t, os.Remove(w.Path))
	w.expect("")
}

func TestFolderMayComeAndGo(t *testing.T) {
	top := t.TempDir()
	w := watch(t, File{Path: filepath.Join(top, "a/b/reboot-required")})
	for range 3 {
		must.Do(t, os.MkdirAll(filepath.Join(top, "a/b"), 0o755))
		w.write(t, "")
		w.expect("needed")
		must.Do(t, os.RemoveAll(filepath.Join(top, "a")))
		w.expect("")
	}
	must.Do(t, os.MkdirAll(filepath.Join(top, "c/b"), 0o755))
	must.Do(t, os.WriteFile(filepath.Join(top, "c/b/reboot-required"), nil, 0o644))
	must.Do(t, os.Rename(filepath.Join(top, "c"), filepath.Join(top, "a")))
	w.expect("needed")
	must.Do(t, os.Rename(filepath.Join(top, "a/b"), filepath.Join(top, "moved")))
	w.expect("")
	must.Do(t, os.Rename(filepath.Join(top, "moved"), filepath.Join(top, "a/b")))
	w.expect("needed")
}

func TestWhatMatters(t *testing.T) {
	w := &watcher{File: File{Path: "/run/sub/reboot-required"}, watch: 3, folder: "/run/sub"}
	for _, test := range []struct {
		event
		want bool
	}{
		{event{3, unix.IN_CREATE, "reboot-required"}, true},
		{event{3, unix.IN_CREATE, "reboot-required.pkgs"}, true},
		{event{3, unix.IN_CREATE, "reboot-required.new"}, false},
		{event{3, unix.IN_CREATE, "reboot"}, false},
		{event{3, unix.IN_CREATE, "sub"}, false},
		{event{3, unix.IN_DELETE_SELF, ""}, true},
		{event{3, unix.IN_IGNORED, ""}, true},
		{event{2, unix.IN_IGNORED, ""}, false}, // of a folder that is not watched any more
		{event{2, unix.IN_CREATE, "reboot-required"}, false},
		{event{-1, unix.IN_Q_OVERFLOW, ""}, true}, // events were lost
	} {
		if got := w.matters(test.event); got != test.want {
			t.Errorf("%+v: %v, want %v", test.event, got, test.want)
		}
	}
	w.folder = "/run" // there is no sub
	for name, want := range map[string]bool{"sub": true, "su": false, "reboot-required": false} {
		if got := w.matters(event{3, unix.IN_CREATE, name}); got != want {
			t.Errorf("on the way, %s: %v, want %v", name, got, want)
		}
	}
}

func TestFreshFileIsReportedOnceItIsOldEnough(t *testing.T) {
	f := newFile(t)
	f.write(t, "")
	f.Settle = 200 * time.Millisecond
	states, err := f.Watch(t.Context())
	must.Do(t, err)
	w := watched{t, f, states}
	w.expect("")
	w.expect("needed")
}

func TestNobodyLooksWithoutAnEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
		must.Do(t, err)
		defer unix.Close(fd)
		f, states := newFile(t), make(chan State)
		w := &watcher{File: File{Path: f.Path}, fd: fd, events: make(chan event), mounts: make(chan struct{})}
		go w.run(t.Context(), states)
		<-states
		synctest.Wait()
		f.write(t, "") // nobody passes the event on
		select {
		case s := <-states:
			t.Fatalf("%+v is reported without an event", s)
		case <-time.After(24 * time.Hour):
		}
		w.mounts <- struct{}{}
		if s := <-states; !s.Needed {
			t.Fatalf("after an event, %+v is reported", s)
		}
	})
}

// mountVariable is set in the process of TestMountsOverTheFolder that has mounts of its own.
const mountVariable = "LOCKSMITH_TEST_MOUNT"

func TestMountsOverTheFolder(t *testing.T) {
	must.Do(t, realpart.Root("a mount namespace"))
	if os.Getenv(mountVariable) == "" {
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestMountsOverTheFolder$", "-test.v")
		cmd.Env = append(os.Environ(), mountVariable+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	must.Do(t, syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""))
	w := watch(t, newFile(t))
	folder := filepath.Dir(w.Path)
	w.write(t, "")
	w.expect("needed")
	must.Do(t, syscall.Mount("tmpfs", folder, "tmpfs", 0, ""))
	w.expect("")
	w.write(t, "on the new one")
	w.expect(": on the new one")
	must.Do(t, syscall.Unmount(folder, syscall.MNT_DETACH))
	w.expect("needed")
	must.Do(t, os.Remove(w.Path))
	w.expect("")
}

func TestWatchEndsWithItsContext(t *testing.T) {
	for range 3 {
		before := files(t)
		ctx, cancel := context.WithCancel(t.Context())
		states, err := newFile(t).Watch(ctx)
		must.Do(t, err)
		must.Receive(t, patience, "the first state", states)
		cancel()
		for range states {
		}
		must.Eventually(t, patience, "the files to be closed", func() bool { return files(t) == before })
	}
}

// files returns how many files this process has open.
func files(t testing.TB) int {
	t.Helper()
	open, err := os.ReadDir("/proc/self/fd")
	must.Do(t, err)
	return len(open)
}
