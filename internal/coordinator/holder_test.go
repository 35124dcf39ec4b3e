package coordinator

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/realpart"
)

// lockerVariable makes this test binary, when run again, lock the file that it names and execute another program.
const lockerVariable = "COORDINATOR_LOCKER"

func lockAndBecome(path, program string) {
	fd, err := syscall.Open(path, syscall.O_RDONLY, 0)
	if err == nil {
		err = syscall.Flock(fd, syscall.LOCK_EX|syscall.LOCK_NB)
	}
	if err == nil {
		fmt.Println("held")
		err = syscall.Exec(program, []string{program, "1000"}, nil)
	}
	fmt.Println(err)
	os.Exit(1)
}

// stale returns the path of a file that a dead coordinator has left, in a folder that every user can read.
func stale(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "coordinator-test-") // a tmpfs, as /run is
	must.Do(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "coordinator.conf")
	for _, err := range []error{
		os.Chmod(dir, 0o755), os.WriteFile(path, []byte("NAME=gone\nSTRATEGY=reboot\nSTATE=running\n"), 0o600), os.Chmod(path, 0o644),
	} {
		must.Do(t, err)
	}
	return path
}

// hold runs a program as a user. The program holds the lock once it prints "held", until release or the end of the
// test.
func hold(t *testing.T, uid uint32, path string, environ []string, args ...string) (release func()) {
	t.Helper()
	realpart.Must(t, realpart.Root("programs of other users"), realpart.Tool("flock", "util-linux"))
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), environ...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}, Setpgid: true}
	stdout, err := cmd.StdoutPipe()
	must.Do(t, err)
	stdin, err := cmd.StdinPipe()
	must.Do(t, err)
	must.Do(t, cmd.Start())
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "held\n" {
		t.Fatalf("%q as %d says %q, %v", args, uid, line, err)
	}
	if free(t, path) {
		t.Fatalf("%q does not hold the lock", args)
	}
	return func() { stdin.Close(); _ = cmd.Wait() }
}

const userID = 65534 // of a user other than root

// The programs hold the lock until their standard input ends.
func byFlock(path string) []string {
	return []string{"flock", path, "sh", "-c", "echo held; read x"}
}

func byFlockShared(path string) []string {
	return []string{"flock", "-s", path, "sh", "-c", "echo held; read x"}
}

func byShell(path string) []string { // the process that took the lock has ended
	return []string{"sh", "-c", "exec 9<" + path + "; flock 9 && echo held && read x"}
}

func byShellThatCanWrite(path string) []string {
	return []string{"sh", "-c", "exec 9<>" + path + "; flock 9 && echo held && read x"}
}

// Programs may lock the file while they read it, root's too.
func TestALockForAMomentIsWaitedFor(t *testing.T) {
	for _, uid := range []uint32{0, userID} {
		path := stale(t)
		release := hold(t, uid, path, nil, byFlock(path)...)
		synctest.Test(t, func(t *testing.T) {
			var log bytes.Buffer
			var f *File
			var err error
			done := make(chan struct{})
			go func() {
				f, err = Open(t.Context(), path, "reboot", slog.New(slog.NewTextHandler(&log, nil)))
				close(done)
			}()
			synctest.Wait() // Open has failed once, and waits
			release()
			<-done
			if err != nil || log.Len() > 0 {
				t.Fatal(err, log.String())
			}
			f.Close()
		})
	}
}

func TestALockOfAnotherUserDoesNotCount(t *testing.T) {
	setUID := filepath.Join(filepath.Dir(stale(t)), "sleep")
	copyOf, err := os.ReadFile("/bin/sleep")
	must.Do(t, err)
	must.Do(t, errors.Join(os.WriteFile(setUID, copyOf, 0o755), os.Chmod(setUID, 0o755|os.ModeSetuid)))
	for kind, test := range map[string]struct {
		args    func(path string) []string
		environ func(path string) []string
	}{
		"by the user's program":            {args: byFlock},
		"by a program that has ended":      {args: byShell},
		"shared":                           {args: byFlockShared},
		"by a set-user-ID program of root": {args: func(string) []string { return []string{"/proc/self/exe"} }, environ: func(path string) []string { return []string{lockerVariable + "=" + path, "BECOME=" + setUID} }},
	} {
		t.Run(kind, func(t *testing.T) {
			path := stale(t)
			var environ []string
			if test.environ != nil {
				environ = test.environ(path)
			}
			hold(t, userID, path, environ, test.args(path)...)
			var log bytes.Buffer
			var f *File
			synctest.Test(t, func(t *testing.T) {
				var err error
				if f, err = Open(t.Context(), path, "reboot", slog.New(slog.NewTextHandler(&log, nil))); err != nil {
					t.Fatal(err)
				}
			})
			defer f.Close()
			expect(t, path, content("reboot", Starting))
			if free(t, path) {
				t.Error("the file is not locked")
			}
			if !strings.Contains(log.String(), "does not count") || strings.Count(log.String(), "\n") != 1 {
				t.Errorf("the log has %q", log.String())
			}
			if err := f.Set("reboot", Running); err != nil {
				t.Error(err)
			}
			var held *HeldError
			if _, err := start(path); !errors.As(err, &held) || held.Name != name || held.PID != os.Getpid() {
				t.Errorf("another coordinator: %v", err)
			}
		})
	}
}

func TestALockOfRootCounts(t *testing.T) {
	for _, test := range []struct {
		name string
		args func(path string) []string
		says string
	}{
		{"that reads", byFlock, ` (flock) of root, and the file names the reboot coordinator "gone": only one `},
		{"beside a user's", byFlockShared, ` (flock) of root, and the file names the reboot coordinator "gone": only one `},
		{"that can write", byShellThatCanWrite, `is held by the reboot coordinator "gone", process `},
	} {
		path := stale(t)
		if test.name == "beside a user's" {
			hold(t, userID, path, nil, test.args(path)...)
		}
		hold(t, 0, path, nil, test.args(path)...)
		var err error
		synctest.Test(t, func(t *testing.T) { _, err = start(path) })
		var held *HeldError
		if !errors.As(err, &held) || !strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", test.name, err)
		}
		expect(t, path, "NAME=gone\nSTRATEGY=reboot\nSTATE=running\n")
	}
}

func TestWaitingForTheLockEndsWithTheProgram(t *testing.T) {
	path := stale(t)
	hold(t, 0, path, nil, byFlock(path)...)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, path, "reboot", slog.New(slog.DiscardHandler)); !errors.Is(err, ctx.Err()) {
		t.Errorf("got %v", err)
	}
}

// Several coordinators start at once while a user holds the lock.
func TestOnlyOneOfManyTakesOverFromAUser(t *testing.T) {
	for range 10 {
		path := stale(t)
		hold(t, userID, path, nil, byFlock(path)...)
		synctest.Test(t, func(t *testing.T) {
			files := make(chan *File, 8)
			for range cap(files) {
				go func() {
					f, err := start(path)
					if (f == nil) == (err == nil) {
						t.Errorf("got %v, %v", f, err)
					}
					files <- f
				}()
			}
			winners := 0
			for range cap(files) {
				if f := <-files; f != nil {
					winners++
					defer f.Close()
				}
			}
			if winners != 1 {
				t.Errorf("%d coordinators", winners)
			}
		})
	}
}
