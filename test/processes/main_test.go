package processes

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/test/bustest"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/race"
	"github.com/locksmithd/locksmith/test/realpart"
)

// patience is how long a test waits for something that has to happen. Only a test that fails waits for so long.
var patience time.Duration

// bin is the folder of the programs, built from this tree.
var bin string

func locksmithd() string { return filepath.Join(bin, "locksmithd") }

func locksmithctl() string { return filepath.Join(bin, "locksmithctl") }

func TestMain(m *testing.M) {
	bustest.RunStranger()
	flag.DurationVar(&patience, "patience", 2*time.Minute, "how long a test waits for what has to happen")
	flag.Parse()
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		// The tests spend most of their time waiting for timeouts.
		if err := flag.Set("test.parallel", "16"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	dir, err := os.MkdirTemp("", "processes")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	bin = dir
	if err := build(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer closeServers()
	return m.Run()
}

// build builds the programs as the Makefile does, except for the race detector.
func build(dir string) error {
	args := []string{"build", "-trimpath", "-tags", "grpcnotrace", "-ldflags", "-s -w -X main.version=test", "-o", dir}
	cgo := "CGO_ENABLED=0"
	if race.Enabled {
		args = append(args, "-race")
		cgo = "CGO_ENABLED=1"
	}
	cmd := exec.Command("go", append(args, "../../locksmithd", "../../locksmithctl")...)
	cmd.Env = append(os.Environ(), cgo)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the programs: %w\n%s", err, out)
	}
	return nil
}

// servers are the etcd processes that tests share, each with a group of its own. These tests do not disturb etcd.
var servers struct {
	sync.Mutex
	running map[etcdtest.Version]*etcdtest.Server
}

// sharedEtcd returns the etcd of a version that the tests share.
func sharedEtcd(t testing.TB, v etcdtest.Version) *etcdtest.Server {
	t.Helper()
	servers.Lock()
	defer servers.Unlock()
	if s := servers.running[v]; s != nil {
		return s
	}
	binary, err := etcdtest.Binary(v)
	realpart.Must(t, err)
	dir := filepath.Join(bin, "etcd-"+v.String())
	must.Do(t, os.Mkdir(dir, 0o755))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s, err := etcdtest.Start(ctx, etcdtest.Options{Binary: binary, Dir: dir})
	must.Do(t, err)
	if servers.running == nil {
		servers.running = map[etcdtest.Version]*etcdtest.Server{}
	}
	servers.running[v] = s
	return s
}

func closeServers() {
	for _, s := range servers.running {
		s.Close()
	}
}

// forEachEtcd runs a test against the shared etcd of each version.
func forEachEtcd(t *testing.T, f func(t *testing.T, s *etcdtest.Server)) {
	t.Helper()
	forEtcds(t, etcdtest.Versions(), f)
}

// forOldestAndNewestEtcd is forEachEtcd for tests about the bus or signals, which do not depend on the versions
// between.
func forOldestAndNewestEtcd(t *testing.T, f func(t *testing.T, s *etcdtest.Server)) {
	t.Helper()
	forEtcds(t, etcdtest.OldestAndNewest(), f)
}

func forEtcds(t *testing.T, versions []etcdtest.Version, f func(t *testing.T, s *etcdtest.Server)) {
	t.Helper()
	for _, v := range versions {
		t.Run(v.String(), func(t *testing.T) {
			t.Parallel()
			f(t, sharedEtcd(t, v))
		})
	}
}

// forEachOwnEtcd runs a test against an etcd of each version that the test may disturb.
func forEachOwnEtcd(t *testing.T, o etcdtest.Options, f func(t *testing.T, s *etcdtest.Server)) {
	t.Helper()
	for _, v := range etcdtest.Versions() {
		t.Run(v.String(), func(t *testing.T) {
			t.Parallel()
			f(t, etcdtest.MustStart(t, v, o))
		})
	}
}

// soon returns a context for something that has to happen soon.
func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}
