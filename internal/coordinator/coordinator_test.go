package coordinator

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/realpart"
)

// holderVariable makes this test binary, when run again, hold the file that it names.
const holderVariable = "COORDINATOR_HOLDER"

func TestMain(m *testing.M) {
	if path := os.Getenv(lockerVariable); path != "" {
		lockAndBecome(path, os.Getenv("BECOME"))
	}
	if path := os.Getenv(holderVariable); path != "" {
		f, err := start(path)
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("held")
		_, _ = os.Stdin.Read(make([]byte, 1)) // until it is killed
		fmt.Println(f.Close())
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// start opens the file as a starting daemon does.
func start(path string) (*File, error) {
	return Open(context.Background(), path, "reboot", slog.New(slog.DiscardHandler))
}

func open(t *testing.T, path string) *File {
	t.Helper()
	f, err := Open(t.Context(), path, "etcd-lock", slog.New(slog.DiscardHandler))
	must.Do(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

func content(strategy string, state State) string {
	return "NAME=locksmithd\nSTRATEGY=" + strategy + "\nSTATE=" + string(state) + "\n"
}

func expect(t *testing.T, path, want string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || string(got) != want {
		t.Errorf("the file holds %q, %v, want %q", got, err, want)
	}
}

// free reports whether another coordinator could lock the file now.
func free(t *testing.T, path string) bool {
	t.Helper()
	file, err := os.Open(path)
	must.Do(t, err)
	defer file.Close()
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err != nil && !errors.Is(err, syscall.EWOULDBLOCK) {
		t.Fatal(err)
	}
	return err == nil
}

func TestFileSaysWhoAndWhat(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	path := filepath.Join(t.TempDir(), "run", "update-engine", "coordinator.conf")
	f := open(t, path)
	expect(t, path, content("etcd-lock", Starting))
	for _, state := range []State{Running, RebootPlanned, Rebooting, Disabled} {
		must.Do(t, f.Set("reboot", state))
		expect(t, path, content("reboot", state))
		if free(t, path) {
			t.Errorf("%s: the file is not locked", state)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o644 {
		t.Errorf("mode %v, %v, want 0644", info.Mode(), err)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("beside the file lie %v, %v", entries, err)
	}
	must.Do(t, f.Close())
	if !free(t, path) {
		t.Error("still locked after Close")
	}
	if err := f.Close(); err != nil {
		t.Errorf("a second Close: %v", err)
	}
	if err := f.Set("reboot", Running); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("Set after Close: %v", err)
	}
	expect(t, path, content("reboot", Disabled))
}

func TestCannotStartWhileAnotherCoordinatorHoldsTheFile(t *testing.T) {
	realpart.Must(t, realpart.Root("a coordinator that counts"))
	for _, test := range []struct{ content, name string }{
		{"NAME=locksmithd\nSTRATEGY=reboot\nSTATE=running\n", "locksmithd"},
		{"STATE=running\nNAME=some-other\n", "some-other"},
		{"", ""},
		{strings.Repeat("x", 1<<20), ""},
	} {
		path := filepath.Join(t.TempDir(), "coordinator.conf")
		must.Do(t, os.WriteFile(path, []byte(test.content), 0o600))
		other, err := os.Open(path)
		must.Do(t, err)
		must.Do(t, syscall.Flock(int(other.Fd()), syscall.LOCK_EX))
		var held *HeldError
		synctest.Test(t, func(t *testing.T) { // start waits for some seconds
			_, err = start(path)
		})
		if !errors.As(err, &held) || held.Name != test.name || held.Path != path || held.PID != os.Getpid() {
			t.Errorf("got %v, want a HeldError naming %q", err, test.name)
		} else if !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), test.name) {
			t.Errorf("the message lacks the path or the name: %v", err)
		}
		expect(t, path, test.content)
		other.Close()
		open(t, path)
	}
}

func TestFileIsTakenOverFromADeadCoordinator(t *testing.T) {
	path := filepath.Join(t.TempDir(), "coordinator.conf")
	holder := exec.Command("/proc/self/exe")
	holder.Env = []string{holderVariable + "=" + path}
	stdin, err := holder.StdinPipe()
	must.Do(t, err)
	defer stdin.Close()
	stdout, err := holder.StdoutPipe()
	must.Do(t, err)
	must.Do(t, holder.Start())
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "held\n" {
		t.Fatalf("the holder says %q, %v", line, err)
	}
	var held *HeldError
	if _, err := start(path); !errors.As(err, &held) {
		t.Errorf("while it lives: %v", err)
	}
	// A coordinator that dies while it writes leaves this.
	must.Do(t, os.WriteFile(filepath.Join(filepath.Dir(path), ".coordinator.conf.new"), []byte("NAME=lo"), 0o600))
	must.Do(t, holder.Process.Kill())
	_ = holder.Wait()
	open(t, path)
	expect(t, path, content("etcd-lock", Starting))
}

// While the state changes all the time, no reader gets a part of the file, and no other process gets the lock on
// the file at the path.
func TestFileIsAlwaysWholeAndAlwaysLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "coordinator.conf")
	f := open(t, path)
	whole := map[string]bool{content("etcd-lock", Starting): true}
	states := []State{Running, RebootPlanned, Rebooting}
	for _, s := range states {
		whole[content("etcd-lock", s)] = true
	}
	done := make(chan struct{})
	var watchers sync.WaitGroup
	repeat := func(check func()) {
		watchers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					check()
				}
			}
		})
	}
	reads := 0
	repeat(func() {
		got, err := os.ReadFile(path)
		if err != nil || !whole[string(got)] {
			t.Errorf("read %q, %v", got, err)
		}
		reads++
	})
	contests := 0
	repeat(func() {
		file, err := os.Open(path)
		if err != nil {
			t.Error(err)
			return
		}
		defer file.Close()
		contests++
		if syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
			return
		}
		// The lock can be taken only if the file has lost its name in the meantime.
		if current, err := isAt(file, path); err != nil || current {
			t.Errorf("got the lock on the current file: %v", err)
		}
	})
	repeat(func() {
		var held *HeldError
		if other, err := start(path); !errors.As(err, &held) || held.Name != name {
			t.Errorf("a second coordinator: %v, %v", other, err)
		}
	})
	for i := range 300 {
		must.Do(t, f.Set("etcd-lock", states[i%len(states)]))
	}
	close(done)
	watchers.Wait()
	if reads == 0 || contests == 0 {
		t.Errorf("%d reads and %d attempts to lock", reads, contests)
	}
}

func TestOnlyOneOfManyOpensWins(t *testing.T) {
	for range 30 {
		path := filepath.Join(t.TempDir(), "coordinator.conf")
		files := make([]*File, 8)
		var openers sync.WaitGroup
		for i := range files {
			openers.Go(func() {
				f, err := start(path)
				var held *HeldError
				if err != nil && !errors.As(err, &held) {
					t.Error(err)
				}
				files[i] = f
			})
		}
		openers.Wait()
		winners := 0
		for _, f := range files {
			if f != nil {
				winners++
				f.Close()
			}
		}
		if winners != 1 {
			t.Fatalf("%d coordinators", winners)
		}
	}
}

func TestOnlyAPlainFileIsAccepted(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "target")
	must.Do(t, os.WriteFile(target, []byte("precious"), 0o600))
	for _, test := range []struct {
		name string
		make func(path string) error
		want string
	}{
		{"symbolic link", func(path string) error { return os.Symlink(target, path) }, "is a symbolic link"},
		{"dangling link", func(path string) error { return os.Symlink("nowhere", path) }, "is a symbolic link"},
		{"directory", func(path string) error { return os.Mkdir(path, 0o755) }, "is a directory"},
		{"named pipe", func(path string) error { return syscall.Mkfifo(path, 0o644) }, "is not a plain file"},
	} {
		path := filepath.Join(dir, test.name)
		must.Do(t, test.make(path))
		done := make(chan error, 1)
		go func() {
			_, err := start(path)
			done <- err
		}()
		err := must.Receive(t, 20*time.Second, "Open of a "+test.name, done)
		if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want that %s %s", test.name, err, path, test.want)
		}
	}
	expect(t, target, "precious")
}

func TestFolderThatCannotBeMadeIsAnError(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	must.Do(t, os.WriteFile(file, nil, 0o600))
	if _, err := start(filepath.Join(file, "update-engine", "coordinator.conf")); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("got %v", err)
	}
}

// An error leaves the old file where it is, and locked.
func TestFailedSetKeepsFileAndLock(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "coordinator.conf")
	f := open(t, path)
	// Not even root can remove this folder, which has the name of the new file.
	obstacle := filepath.Join(dir, ".coordinator.conf.new")
	must.Do(t, os.MkdirAll(filepath.Join(obstacle, "full"), 0o755))
	if err := f.Set("etcd-lock", Running); err == nil {
		t.Error("no error")
	}
	expect(t, path, content("etcd-lock", Starting))
	if free(t, path) {
		t.Error("the lock is lost")
	}
	must.Do(t, os.RemoveAll(obstacle))
	if err := f.Set("etcd-lock", Running); err != nil {
		t.Errorf("once the obstacle is gone: %v", err)
	}
	expect(t, path, content("etcd-lock", Running))
}

func TestReplacedFileIsNotOverwritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "coordinator.conf")
	f := open(t, path)
	must.Do(t, os.Remove(path))
	if err := f.Set("etcd-lock", Running); !errors.Is(err, errReplaced) {
		t.Errorf("removed: %v", err)
	}
	must.Do(t, os.WriteFile(path, []byte("NAME=another\n"), 0o600))
	if err := f.Set("etcd-lock", Running); !errors.Is(err, errReplaced) {
		t.Errorf("replaced: %v", err)
	}
	expect(t, path, "NAME=another\n")
}

// The new content is written beside the file. Only root can open what is written there until it is complete.
func TestOnlyOneProcessReplacesTheFileAtATime(t *testing.T) {
	for mode, replaced := range map[fs.FileMode]bool{
		ownerOnly: false, // another coordinator writes it
		0o644:     true,  // a killed coordinator left it, and a user locked it
	} {
		path := filepath.Join(t.TempDir(), "coordinator.conf")
		f := open(t, path)
		temporary := filepath.Join(filepath.Dir(path), ".coordinator.conf.new")
		must.Do(t, errors.Join(os.WriteFile(temporary, nil, ownerOnly), os.Chmod(temporary, mode)))
		file, err := os.Open(temporary)
		must.Do(t, err)
		defer file.Close()
		must.Do(t, syscall.Flock(int(file.Fd()), syscall.LOCK_EX))
		err = f.Set("reboot", Running)
		var held *HeldError
		if (err == nil) != replaced || !replaced && !errors.As(err, &held) {
			t.Errorf("mode %v: %v", mode, err)
		}
		if replaced {
			expect(t, path, content("reboot", Running))
		} else {
			expect(t, path, content("etcd-lock", Starting))
		}
	}
}
