package metricsfile

import (
	"context"
	"fmt"
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

	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/promtest"
	"github.com/locksmithd/locksmith/test/realpart"
)

// kept is a File that runs.
type kept struct {
	*File
	mu    sync.Mutex
	path  string
	facts Facts
	log   strings.Builder
	end   context.CancelFunc
	done  chan struct{}
}

func (k *kept) Write(line []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.log.Write(line)
}

func runFile(t *testing.T, path string) *kept {
	k := &kept{File: New(), path: path, facts: Facts{Version: "1"}, done: make(chan struct{})}
	k.Log = slog.New(slog.NewTextHandler(k, nil))
	k.Self = func() (string, Facts) {
		k.mu.Lock()
		defer k.mu.Unlock()
		return k.path, k.facts
	}
	var ctx context.Context
	ctx, k.end = context.WithCancel(t.Context())
	go func() { defer close(k.done); k.Run(ctx) }()
	t.Cleanup(func() { k.end(); <-k.done })
	return k
}

// set changes what Self returns.
func (k *kept) set(path, version string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.path, k.facts.Version = path, version
}

func (k *kept) does(s policy.State) { k.Observe(policy.Snapshot{State: s, Since: noon}, "", nil) }

func (k *kept) logged() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.log.String()
}

// says returns in which state the file says that the host is, "" if there is no file.
func says(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return ""
	}
	must.Do(t, err)
	for line := range strings.Lines(string(text)) {
		if state, ok := strings.CutPrefix(line, `locksmith_state{state="`); ok && strings.HasSuffix(line, " 1\n") {
			return state[:strings.Index(state, `"`)]
		}
	}
	return "nothing"
}

func wantState(t *testing.T, path, want string) {
	t.Helper()
	if got := says(t, path); got != want {
		t.Errorf("the file says %q, want %q", got, want)
	}
}

func TestFileFollowsTheDaemonOnceASecondAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "locksmith.prom")
		k := runFile(t, path)
		k.Refresh()
		synctest.Wait()
		time.Sleep(2 * every)
		wantState(t, path, "") // the daemon has not said yet what it does
		k.does(policy.Idle)
		time.Sleep(time.Nanosecond)
		wantState(t, path, "idle")
		k.does(policy.Waiting)
		time.Sleep(time.Nanosecond)
		k.does(policy.Locking)
		time.Sleep(every / 2)
		wantState(t, path, "idle")
		time.Sleep(every / 2)
		wantState(t, path, "locking")
		k.end()
		<-k.done
		wantState(t, path, "")
	})
}

// A file that says the same is left alone, and so is a host on which nothing happens.
func TestFileIsWrittenOnlyWhenItChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "locksmith.prom")
		k := runFile(t, path)
		k.does(policy.Idle)
		time.Sleep(time.Hour)
		before, err := os.Stat(path)
		must.Do(t, err)
		k.Observe(policy.Snapshot{State: policy.Idle, Since: noon, Why: "something else", BlockedBy: "web-2"}, "", nil)
		k.Refresh()
		time.Sleep(time.Hour)
		after, err := os.Stat(path)
		if must.Do(t, err); !os.SameFile(before, after) {
			t.Error("the file was replaced although it says the same")
		}
	})
}

func TestFileMovesAndIsTurnedOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		first, second := filepath.Join(dir, "a.prom"), filepath.Join(dir, "b.prom")
		k := runFile(t, first)
		k.does(policy.Idle)
		time.Sleep(every)
		k.set(second, "1")
		k.Refresh()
		time.Sleep(every)
		wantState(t, first, "")
		wantState(t, second, "idle")
		k.set("", "1")
		k.Refresh()
		time.Sleep(every)
		wantState(t, second, "")
		k.set(first, "1")
		k.Refresh()
		time.Sleep(every)
		wantState(t, first, "idle")
		if k.logged() != "" {
			t.Error(k.logged())
		}
	})
}

// What is wrong is said once, and what can be done about it; the next change tries again, and so does time.
func TestFileThatCannotBeWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "missing")
		path := filepath.Join(dir, "locksmith.prom")
		k := runFile(t, path)
		for range 3 {
			k.does(policy.Idle)
			time.Sleep(every)
			k.does(policy.Waiting)
			time.Sleep(every)
		}
		if log := k.logged(); strings.Count(log, "\n") != 1 || !strings.Contains(log, "no such file or directory: create the folder "+dir) || !strings.Contains(log, "LOCKSMITHD_METRICS_FILE") {
			t.Errorf("the log is %s", log)
		}
		must.Do(t, os.Mkdir(dir, 0o755))
		k.does(policy.Idle)
		time.Sleep(every)
		wantState(t, path, "idle")
		if log := k.logged(); strings.Count(log, "\n") != 2 || !strings.Contains(log, "written again") {
			t.Errorf("the log is %s", log)
		}
		must.Do(t, os.RemoveAll(dir))
		k.does(policy.Waiting)
		time.Sleep(time.Hour)
		wantState(t, path, "")
		must.Do(t, os.Mkdir(dir, 0o755))
		time.Sleep(retryAfter + time.Second)
		wantState(t, path, "waiting")
		if log := k.logged(); strings.Count(log, "\n") != 4 {
			t.Errorf("the log is %s", log)
		}
	})
}

func TestFolderThatTheSandboxShuts(t *testing.T) {
	realpart.Must(t, realpart.Root("mounts"), realpart.Tool("unshare", "util-linux"))
	if os.Getenv("METRICSFILE_READONLY") != "" {
		fmt.Println(replace(os.Getenv("METRICSFILE_READONLY")+"/locksmith.prom", []byte("up 1\n")))
		return
	}
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "unshare", "--mount", "sh", "-ec", `mount -t tmpfs -o ro none "$1"; exec "$0" -test.run=TestFolderThatTheSandboxShuts`, os.Args[0], dir)
	cmd.Env = append(os.Environ(), "METRICSFILE_READONLY="+dir)
	out, err := cmd.CombinedOutput()
	must.Do(t, err)
	for _, part := range []string{"read-only file system", "set LOCKSMITHD_METRICS_FILE=/run/locksmith/locksmith.prom, or let it", "ReadWritePaths=" + dir} {
		if !strings.Contains(string(out), part) {
			t.Errorf("the error does not say %q:\n%s", part, out)
		}
	}
}

// A file is for everybody, although the daemon's own files are not. node_exporter reads it, also through a link.
func TestNodeExporterReadsTheFile(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	dir, runs := t.TempDir(), t.TempDir()
	path := filepath.Join(runs, "locksmith.prom")
	must.Do(t, os.Symlink(path, filepath.Join(dir, "locksmith.prom")))
	exporter := promtest.Start(t, "prometheus-node-exporter", nil, "--collector.disable-defaults", "--collector.textfile", "--collector.textfile.directory="+dir)
	for name, f := range hosts {
		must.Do(t, replace(path, f.Text()))
		info, err := os.Stat(path)
		if must.Do(t, err); info.Mode().Perm() != 0o644 {
			t.Errorf("its mode is %v", info.Mode())
		}
		if left, err := filepath.Glob(filepath.Join(runs, "*")); err != nil || len(left) != 1 {
			t.Errorf("the folder has %v, %v", left, err)
		}
		got := promtest.Scrape(t, exporter+"/metrics")
		for line := range strings.Lines(string(f.Text())) {
			if strings.HasPrefix(line, "# TYPE ") && !strings.Contains(got, line) {
				t.Errorf("%s: node_exporter does not have %s", name, line)
			}
		}
		if !strings.Contains(got, "\nnode_textfile_scrape_error 0\n") {
			t.Errorf("%s: node_exporter cannot read the file:\n%s", name, got)
		}
	}
}
