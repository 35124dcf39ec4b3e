package history

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/realpart"
)

const (
	good = "" // the host is well
	bad  = "after-reboot: 20-etcd: member is unhealthy"
)

// host is a host that reboots for a version.
type host struct {
	t *testing.T
	*File
	root string
}

func newHost(t *testing.T) host {
	root := t.TempDir()
	return host{t, New(root), root}
}

// begin reboots the host from a boot, for a version.
func (h host) begin(boot, version string) {
	h.t.Helper()
	must.Do(h.t, h.Begin(h.t.Context(), Reboot{BootID: boot, Version: version, OSVersion: "4152.2.0"}))
}

// ended says in a boot what became of the host.
func (h host) ended(boot string, results ...string) {
	h.t.Helper()
	for _, result := range results {
		must.Do(h.t, h.Ended(h.t.Context(), boot, result))
	}
}

// failed expects a number of failures for a version.
func (h host) failed(version string, want int) {
	h.t.Helper()
	got, _, err := New(h.root).Failed(version)
	if err != nil || got != want {
		h.t.Errorf("%q has failed %d times, %v, want %d", version, got, err, want)
	}
}

func TestRebootsThatDoNotBringAVersionUpCount(t *testing.T) {
	h := newHost(t)
	h.failed("", 0)
	h.failed("1", 0)
	h.begin("a", "1")
	h.failed("1", 0) // it may still come up
	h.ended("b", bad, bad, "something else", bad)
	h.failed("1", 1)
	h.failed("2", 0)
	h.failed("", 0)
	if _, why, err := h.Failed("1"); why != bad || err != nil {
		t.Errorf("the reason is %q, %v", why, err)
	}
	h.begin("b", "1")
	h.failed("1", 1)
	h.ended("c", bad)
	h.failed("1", 2)

	// Another version begins at zero, and the first one again.
	h.begin("c", "2")
	h.failed("1", 0)
	h.failed("2", 0)
	h.ended("d", bad)
	h.failed("2", 1)
	h.begin("d", "1")
	h.ended("e", bad)
	h.failed("1", 1)
}

// A reboot for something else, such as one by hand, says nothing about a version that did not come up.
func TestRebootForAnUnknownVersionKeepsTheCount(t *testing.T) {
	h := newHost(t)
	h.begin("a", "1")
	h.ended("b", bad)
	for _, result := range []string{bad, good} {
		h.begin("b", "")
		h.ended("c", result)
		h.failed("1", 1)
		h.failed("", 0)
	}
	h.begin("c", "1")
	h.ended("d", bad)
	h.failed("1", 2)

	h = newHost(t)
	h.begin("a", "1")
	h.ended("b", good)
	h.begin("b", "")
	h.ended("c", bad)
	h.begin("c", "")
	h.ended("d", bad)
	h.failed("", 2)
}

func TestHostThatBecomesWellHasNotFailed(t *testing.T) {
	h := newHost(t)
	h.begin("a", "1")
	h.ended("b", bad)
	h.begin("b", "1")
	h.ended("c", bad, good)
	h.failed("1", 0)
	h.ended("c", bad) // the checks are over
	h.failed("1", 0)
	k, err := h.Read()
	if must.Do(t, err); !k.Last.Verified || k.Last.Result != "" {
		t.Errorf("the last reboot is %+v", k.Last)
	}
}

// A reboot that is refused is none.
func TestRebootThatDoesNotTakePlaceDoesNotCount(t *testing.T) {
	h := newHost(t)
	for range 5 {
		h.begin("a", "1")
		h.ended("a", bad)
		if r, err := h.Pending("a"); r != nil || err != nil {
			t.Errorf("pending in the same boot: %+v, %v", r, err)
		}
	}
	h.failed("1", 0)
	h.begin("b", "1") // the last one did take place
	h.failed("1", 1)
}

// Nobody says what the host came to: it fell back to the old version before locksmithd ran, and wants the new one
// again.
func TestRebootWhoseEndNobodySawCountsWhenTheVersionIsWantedAgain(t *testing.T) {
	h := newHost(t)
	h.begin("a", "1")
	h.begin("c", "1")
	h.failed("1", 1)
	h.begin("e", "1")
	h.failed("1", 2)
}

func TestPendingIsWhatIsNotVerifiedYet(t *testing.T) {
	h := newHost(t)
	pending := func(boot string, want bool) {
		t.Helper()
		r, err := New(h.root).Pending(boot)
		if err != nil || (r != nil) != want || want && (r.Version != "1" || r.OSVersion != "4152.2.0" || r.BootID != "a" || time.Since(r.At) > time.Hour) {
			t.Errorf("pending in %s: %+v, %v", boot, r, err)
		}
	}
	pending("a", false)
	h.begin("a", "1")
	pending("a", false)
	pending("b", true)
	h.ended("b", bad)
	pending("b", true)
	pending("c", true) // an unwell host is rebooted by hand
	h.ended("c", good)
	pending("c", false)
	pending("d", false)
}

func TestResetDropsTheCountOnly(t *testing.T) {
	h := newHost(t)
	reset := func(failed int) {
		t.Helper()
		was, moved, err := h.Reset(h.t.Context())
		if err != nil || moved != "" || was.Failed != failed {
			t.Errorf("Reset: %+v, %q, %v", was, moved, err)
		}
	}
	reset(0)
	if entries, err := os.ReadDir(h.root); err != nil || len(entries) > 0 {
		t.Errorf("Reset of nothing leaves %v, %v", entries, err)
	}
	h.begin("a", "1")
	h.ended("b", bad)
	reset(1)
	h.failed("1", 0)
	if r, err := h.Pending("b"); r == nil || err != nil || r.Result != bad {
		t.Errorf("pending: %+v, %v", r, err)
	}
	reset(0)
	h.ended("b", "something else") // still the same reboot
	h.failed("1", 0)
}

func TestBrokenFileIsNamedAndKept(t *testing.T) {
	for name, create := range map[string]func(path string) error{
		"empty":       content(""),
		"cut":         content(`{"version":"1","fai`),
		"an array":    content(`[]`),
		"wrong types": content(`{"version":1}`),
		"huge":        content(`{"version":"1"}` + strings.Repeat(" ", maxSize)),
		"a folder":    func(path string) error { return os.Mkdir(path, 0o700) },
		"a pipe":      func(path string) error { return syscall.Mkfifo(path, 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			must.Do(t, os.MkdirAll(filepath.Dir(h.path), 0o700))
			must.Do(t, create(h.path))
			before, err := os.Lstat(h.path)
			must.Do(t, err)
			_, readErr := h.Read()
			_, _, failedErr := h.Failed("1")
			_, pendingErr := h.Pending("a")
			for i, err := range []error{readErr, failedErr, pendingErr, h.Begin(h.t.Context(), Reboot{BootID: "a", Version: "1"}), h.Ended(h.t.Context(), "a", bad)} {
				if err == nil || !strings.Contains(err.Error(), h.path) || !strings.HasSuffix(err.Error(), `; "locksmithctl unhold" begins a new one`) || strings.Contains(err.Error(), "\n") {
					t.Errorf("%d: %v", i, err)
				}
			}
			if after, err := os.Lstat(h.path); err != nil || !os.SameFile(before, after) || !before.ModTime().Equal(after.ModTime()) {
				t.Errorf("the file has changed: %v", err)
			}
			_, moved, err := h.Reset(h.t.Context())
			if must.Do(t, err); moved != h.path+".broken" {
				t.Errorf("moved to %q", moved)
			}
			if after, err := os.Lstat(moved); err != nil || !os.SameFile(before, after) {
				t.Errorf("the file is lost: %v", err)
			}
			h.begin("a", "1")
			h.failed("1", 0)
		})
	}
}

// Whoever is told so has run what begins a new file.
func TestFileThatCannotBeMovedAwayIsNamed(t *testing.T) {
	h := newHost(t)
	must.Do(t, os.MkdirAll(h.path, 0o700))
	must.Do(t, os.MkdirAll(filepath.Join(h.path+".broken", "a"), 0o700))
	_, _, err := h.Reset(h.t.Context())
	want := fmt.Sprintf("read %s: it is a directory, not a file; and it cannot be moved away: rename %s %s.broken: file exists", h.path, h.path, h.path)
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func content(text string) func(string) error {
	return func(path string) error { return os.WriteFile(path, []byte(text), 0o600) }
}

func TestTextsOfOthersCannotHarmATerminal(t *testing.T) {
	h := newHost(t)
	h.begin("a", "1\x1b[31m")
	h.ended("b", "\x1b[2J"+strings.Repeat("x", 10000))
	n, why, err := h.Failed("1\x1b[31m")
	if err != nil || n != 1 || len(why) > 300 || strings.Contains(why, "\x1b") {
		t.Errorf("failed %d times, %q, %v", n, why, err)
	}
}

// locksmithctl changes the file while locksmithd does.
func TestChangesAtTheSameTimeLoseNothing(t *testing.T) {
	h := newHost(t)
	h.begin("a", "1")
	const n = 10 // few enough for each to have its turn in five seconds, also on a busy machine
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			if err := New(h.root).change(t.Context(), func(k *Kept) bool { k.Failed++; return true }); err != nil {
				t.Error(i, err)
			}
		})
	}
	all.Wait()
	h.failed("1", n)
}

const diskVariable = "HISTORY_TEST_DISK"

// A disk that takes nothing more costs one clear line, and nothing that was on it.
func TestFullAndReadOnlyDisk(t *testing.T) {
	if what := os.Getenv(diskVariable); what != "" {
		disk(t, what)
		return
	}
	realpart.Must(t, realpart.Root("mounts"), realpart.Tool("unshare", "util-linux"))
	for _, what := range []string{"full", "read-only"} {
		cmd := exec.Command("unshare", "--mount", os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), diskVariable+"="+what)
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
			t.Errorf("%s: %v\n%s", what, err, out)
		}
	}
}

func disk(t *testing.T, what string) {
	h := newHost(t)
	must.Do(t, syscall.Mount("none", h.root, "tmpfs", 0, "size=64k"))
	t.Cleanup(func() { _ = syscall.Unmount(h.root, 0) })
	h.begin("a", "1")
	h.ended("b", bad)
	want, err := h.Read()
	must.Do(t, err)
	wrong := "no space left on device"
	if what == "full" {
		filler, err := os.Create(filepath.Join(h.root, "filler"))
		must.Do(t, err)
		for err == nil {
			_, err = filler.Write(make([]byte, 4096))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		filler.Close()
	} else {
		must.Do(t, syscall.Mount("none", h.root, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
		wrong = "read-only file system"
	}
	_, _, resetErr := h.Reset(h.t.Context())
	for i, err := range []error{h.Begin(h.t.Context(), Reboot{BootID: "b", Version: "2"}), h.Ended(h.t.Context(), "b", good), resetErr} {
		if err == nil || err.Error() != "write "+h.path+": "+wrong {
			t.Errorf("%d: got %v, want %q", i, err, wrong)
		}
	}
	if got, err := h.Read(); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	if entries, err := os.ReadDir(filepath.Dir(h.path)); err != nil || len(entries) != 1 {
		t.Errorf("beside the file: %v, %v", entries, err)
	}
}

// Reboots that took place count once, however often they were asked for, and whatever came of them.
func TestRebootsThatTookPlaceAreCounted(t *testing.T) {
	h := newHost(t)
	count := func(want int) {
		t.Helper()
		if k, err := h.Read(); err != nil || k.Reboots != want {
			t.Errorf("%d reboots, %v, want %d", k.Reboots, err, want)
		}
	}
	h.begin("a", "1")
	h.begin("a", "1") // the first request was refused
	count(0)
	h.ended("b", bad, bad, good, good)
	count(1)
	h.begin("b", "1")
	h.begin("c", "2") // it reboots again before anybody has asked whether it is well
	count(2)
	h.ended("d", good)
	h.begin("d", "")
	h.ended("e", good)
	count(4)
	_, _, err := h.Reset(t.Context())
	must.Do(t, err)
	count(4)
}
