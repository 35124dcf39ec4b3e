package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/locksmithd/locksmith/test/bustest"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/fleetlocktest"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/proc"
)

// TestScripts runs each script in testdata/script, and TestScriptsWithEtcd each of those in its folder etcd, against
// the oldest and the newest version: package lock/etcd has the tests of what depends on the version. Scripts have the
// commands of package testscript, and those of the tables in this and the other script_*_test.go files.
func TestScripts(t *testing.T) {
	t.Parallel()
	runScripts(t, "testdata/script", etcdtest.Newest)
}

func TestScriptsWithEtcd(t *testing.T) {
	t.Parallel()
	for _, v := range etcdtest.OldestAndNewest() {
		t.Run(v.String(), func(t *testing.T) {
			t.Parallel()
			runScripts(t, "testdata/script/etcd", v)
		})
	}
}

func runScripts(t *testing.T, dir string, v etcdtest.Version) {
	testscript.Run(t, testscript.Params{
		Dir: dir,
		Setup: func(env *testscript.Env) error {
			tb, ok := env.T().(testing.TB)
			if !ok {
				return errors.New("testscript does not say which test runs")
			}
			env.Values[stageKey{}] = &stage{TB: tb, version: v}
			hostname, err := os.Hostname()
			if err != nil {
				return err
			}
			env.Setenv("HOSTNAME", hostname)
			env.Setenv("NOW", time.Now().UTC().Format(time.RFC3339))
			env.Setenv("HOST", filepath.Join(env.WorkDir, "host"))
			env.Setenv("ESC", "\x1b")
			return nil
		},
		Cmds:                scriptCommands(),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

// stage is what one script runs in.
type stage struct {
	testing.TB
	version etcdtest.Version

	server   *etcdtest.Server
	proxy    *etcdtest.Proxy
	caught   <-chan struct{} // closed when a call hangs
	hook     chan struct{}   // closed when the hook that hangs is to end
	revision int64

	bus     *bustest.Bus
	logind  *bustest.Logind
	engine  *bustest.Engine
	signals chan *dbus.Signal
	ran     int // of the units that systemd has started, those that the command ran has seen

	alerts atomic.Pointer[string] // that Prometheus has
	told   chan string            // what the web hook was told

	permits *fleetlocktest.Server
}

type stageKey struct{}

// commands are commands of scripts, by name.
type commands map[string]func(*stage, *testscript.TestScript, []string)

// scriptCommands returns all commands as package testscript takes them.
func scriptCommands() map[string]func(*testscript.TestScript, bool, []string) {
	all := map[string]func(*testscript.TestScript, bool, []string){}
	for _, some := range []commands{runCommands, etcdCommands, faultCommands, busCommands, fleetLockCommands} {
		for name, run := range some {
			all[name] = func(ts *testscript.TestScript, neg bool, args []string) {
				if neg {
					ts.Fatalf("this command has no negation")
				}
				run(ts.Value(stageKey{}).(*stage), ts, args)
			}
		}
	}
	return all
}

// The commands that run locksmithctl:
//
//	run CODE ARG...   run locksmithctl on the simulated host in $WORK/host; it must exit with CODE
//	prints LINE...    the standard output of the last run was exactly this
//	says LINE...      the standard error of the last run was exactly this
//	interrupt ARG...  run, and interrupt it as soon as a call hangs; it must exit with 1
//	caught            wait until a call, or a hook, hangs
//	huge FILE         make a file of 100 MB
var runCommands = commands{
	"run":       runCmd,
	"prints":    func(_ *stage, ts *testscript.TestScript, want []string) { exactly(ts, "stdout", want) },
	"says":      func(_ *stage, ts *testscript.TestScript, want []string) { exactly(ts, "stderr", want) },
	"interrupt": interruptCmd,
	"caught":    caughtCmd,
	"huge":      hugeCmd,
}

func runCmd(_ *stage, ts *testscript.TestScript, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec("locksmithctl", append([]string{"--root=" + ts.Getenv("HOST")}, args[1:]...)...)
	if got := proc.ExitStatus(err); got != want {
		ts.Fatalf("exit status %d (%v), want %d", got, err, want)
	}
}

func exactly(ts *testscript.TestScript, what string, lines []string) {
	want := ""
	for _, line := range lines {
		want += line + "\n"
	}
	if got := ts.ReadFile(what); got != want {
		ts.Fatalf("%s is\n%s\nwant\n%s", what, got, want)
	}
}

// interruptCmd leaves the output where stdout and stderr find it.
func interruptCmd(s *stage, ts *testscript.TestScript, args []string) {
	var out, errs strings.Builder
	path, err := exec.LookPath("locksmithctl")
	ts.Check(err)
	cmd := exec.Command(path, append([]string{"--root=" + ts.Getenv("HOST")}, args...)...)
	for _, name := range []string{"LOCKSMITHCTL_ENDPOINT", "DBUS_SYSTEM_BUS_ADDRESS", "REBOOT_STRATEGY", euidVariable} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	cmd.Stdout, cmd.Stderr = &out, &errs
	ts.Check(cmd.Start())
	s.Cleanup(func() { _ = cmd.Process.Kill() })
	caughtCmd(s, ts, nil)
	ts.Check(cmd.Process.Signal(syscall.SIGINT))
	err = cmd.Wait()
	fmt.Fprint(ts.Stdout(), out.String())
	fmt.Fprint(ts.Stderr(), errs.String())
	if code := cmd.ProcessState.ExitCode(); code != 1 {
		ts.Fatalf("exit status %d (%v), want 1; it says %s", code, err, errs.String())
	}
}

func caughtCmd(s *stage, _ *testscript.TestScript, _ []string) {
	must.Receive(s, patience, "the call that hangs", s.caught)
}

func hugeCmd(_ *stage, ts *testscript.TestScript, args []string) {
	f, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	ts.Check(f.Truncate(100 << 20))
	ts.Check(f.Close())
}
