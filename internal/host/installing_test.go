package host

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/locksmithd/locksmith/test/must"
)

// lockVariable names the file that the other process of TestInstallingIsALockOfAnotherProcess locks.
const lockVariable = "LOCKSMITH_TEST_LOCK"

func TestInstallingIsALockOfAnotherProcess(t *testing.T) {
	if path := os.Getenv(lockVariable); path != "" {
		file, err := os.OpenFile(path, os.O_RDWR, 0)
		must.Do(t, err)
		must.Do(t, unix.FcntlFlock(file.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}))
		os.Stdout.WriteString("locked\n")
		_, _ = os.Stdin.Read(make([]byte, 1)) // until its end
		return
	}
	root := t.TempDir()
	want := func(when, want string) {
		t.Helper()
		if got := Installing(root); got != want {
			t.Errorf("%s: got %q, want %q", when, got, want)
		}
	}
	want("without dpkg", "")
	path := filepath.Join(root, dpkgLock)
	must.Do(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must.Do(t, os.WriteFile(path, nil, 0o640))
	want("unlocked", "")

	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), lockVariable+"="+path)
	in, err := cmd.StdinPipe()
	must.Do(t, err)
	out, err := cmd.StdoutPipe()
	must.Do(t, err)
	must.Do(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	must.Do(t, err)
	if line != "locked\n" {
		t.Fatalf("the other process says %q", line)
	}
	for range 2 { // a look does not end the lock
		want("locked", dpkgLock)
	}
	must.Do(t, in.Close())
	must.Do(t, cmd.Wait())
	want("unlocked again", "")

	must.Do(t, os.Remove(path))
	must.Do(t, syscall.Mkdir(path, 0o755))
	want("a folder", "")
}
