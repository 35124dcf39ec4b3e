// Package realpart has a test left out where this machine has not got the real part that
// it needs, such as an etcd, a dbus-daemon or root.
//
// So `go test ./...` passes on a clean clone; `go test -v` says what is left out. `make
// test` and `make e2e` bring every part, and let none be missing: there, and where
// the variable CI is set, the test fails.
package realpart

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
)

// Variable is set by make, to "1", for what is to have every part.
const Variable = "LOCKSMITH_REQUIRE_ALL"

// Required tells whether a missing part is a failure.
func Required() bool {
	ci := os.Getenv("CI")
	return os.Getenv(Variable) == "1" || ci != "" && ci != "0" && ci != "false"
}

// Missing is the error for a part that this machine has not got.
type Missing struct {
	Part   string // what is missing, and why if that is known
	Remedy string // what brings it
}

func (m *Missing) Error() string { return fmt.Sprintf("%s is missing: %s", m.Part, m.Remedy) }

// Root is an error unless this process is root's. what is what needs it, in a word or two.
func Root(what string) error {
	if os.Geteuid() == 0 {
		return nil
	}
	return &Missing{"root, for " + what, "run it as root"}
}

// Tool is an error unless there is a program of this name, which is in a package of Debian.
func Tool(name, pkg string) error {
	if _, err := exec.LookPath(name); err != nil {
		return &Missing{name, "apt-get install " + pkg}
	}
	return nil
}

// T is what Must needs of a *testing.T or *testing.B.
type T interface {
	Helper()
	Fatal(args ...any)
	Skip(args ...any)
}

// Must ends a test that cannot go on because of the first of the errors that is not nil:
// it is left out where a part is missing that is not required, and otherwise fails.
func Must(t T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err == nil {
			continue
		}
		if line, leftOut := LeftOut(err); leftOut {
			t.Skip(line)
		}
		t.Fatal(err)
	}
}

// LeftOut tells whether a test that needs a part is left out, and how to run it, in one line.
func LeftOut(err error) (line string, leftOut bool) {
	var missing *Missing
	if Required() || !errors.As(err, &missing) {
		return "", false
	}
	return fmt.Sprintf("left out: %v; `make test` and `make e2e` run everything", missing), true
}

// Status is the exit status of a TestMain that cannot run its tests because of err, which
// it prints. Behind the "ok" of tests that are left out go test says "[no tests to run]".
func Status(err error) int {
	line, leftOut := LeftOut(err)
	if !leftOut {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Printf("testing: warning: no tests to run\n%s\n", line)
	return 0
}
