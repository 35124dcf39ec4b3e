package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/locksmithd/locksmith/systemd"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/realpart"
)

// patience is how long a test waits for something that has to happen.
const patience = 2 * time.Minute

// The variables that make the test binary the demo, and a locksmithd that cheats.
const (
	asDemo  = "LOCKSMITH_TEST_AS_DEMO"
	asCheat = "LOCKSMITH_TEST_AS_CHEAT"
)

// nobody is the user that runs the demo if the tests run as root.
const nobody = 65534

// bin is the folder of the programs, including the demo.
var bin string

func TestMain(m *testing.M) {
	if os.Getenv(asDemo) != "" {
		os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
	}
	if os.Getenv(asCheat) != "" {
		fmt.Fprintln(os.Stderr, cheat())
		os.Exit(1)
	}
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	var err error
	if bin, err = os.MkdirTemp("", "demo-test-"); err == nil {
		defer os.RemoveAll(bin)
		err = fillBin()
	}
	if err != nil {
		return realpart.Status(err)
	}
	return m.Run()
}

// fillBin makes the folder as the Makefile does.
func fillBin() error {
	etcd, err := etcdtest.Binary(etcdtest.Newest)
	if err != nil {
		return err
	}
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w -X main.version=demo", "-o", bin, "../locksmithd", "../locksmithctl")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the programs: %w\n%s", err, out)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return errors.Join(os.Chmod(bin, 0o755), // for nobody
		copyProgram(etcd, filepath.Join(bin, "etcd")),
		copyProgram(self, filepath.Join(bin, "demo")))
}

func copyProgram(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o755)
}

// cheat asks for a reboot at once and ignores SIGTERM.
func cheat() error {
	signal.Ignore(syscall.SIGTERM)
	conn, err := dbus.ConnectSystemBus()
	if err != nil {
		return err
	}
	if _, err := systemd.NewLogind(conn).Reboot(context.Background(), systemd.FullReboot, false); err != nil {
		return err
	}
	select {}
}
