// Package realpart skips tests that need a real part which this machine lacks, such as an etcd, a dbus-daemon or
// root.
//
// So `go test ./...` passes on a clean clone; `go test -v` lists the skipped tests. `make test` and `make e2e`
// install every part and require it: there, and where the variable CI is set, the test fails instead.
package realpart

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
)

// Variable is set to "1" by make where every part is required.
const Variable = "LOCKSMITH_REQUIRE_ALL"

// Required reports whether a missing part is a failure.
func Required() bool {
	ci := os.Getenv("CI")
	return os.Getenv(Variable) == "1" || ci != "" && ci != "0" && ci != "false"
}

// Missing is the error for a part that this machine lacks.
type Missing struct {
	Part   string // what is missing, and why if known
	Remedy string // what installs it
}

func (m *Missing) Error() string { return fmt.Sprintf("%s is missing: %s", m.Part, m.Remedy) }

// Root returns an error unless this process is root's. The parameter what names the thing that needs root, in a
// word or two.
func Root(what string) error {
	if os.Geteuid() == 0 {
		return nil
	}
	return &Missing{"root, for " + what, "run it as root"}
}

// Tool returns an error unless the program name is installed; pkg is its Debian package.
func Tool(name, pkg string) error {
	if _, err := exec.LookPath(name); err != nil {
		return &Missing{name, "apt-get install " + pkg}
	}
	return nil
}

// T has the methods of *testing.T and *testing.B that Must needs.
type T interface {
	Helper()
	Fatal(args ...any)
	Skip(args ...any)
}

// Must ends a test at the first error that is not nil. It skips the test if a part is missing that is not
// required; otherwise the test fails.
func Must(t T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err == nil {
			continue
		}
		if line, skipped := Skipped(err); skipped {
			t.Skip(line)
		}
		t.Fatal(err)
	}
}

// Skipped reports whether an error skips a test, and returns one line that says how to run it.
func Skipped(err error) (line string, skipped bool) {
	var missing *Missing
	if Required() || !errors.As(err, &missing) {
		return "", false
	}
	return fmt.Sprintf("skipped: %v; `make test` and `make e2e` run everything", missing), true
}

// Status prints err and returns the exit status of a TestMain that cannot run its tests because of it. For skipped
// tests go test then prints "[no tests to run]" after "ok".
func Status(err error) int {
	line, skipped := Skipped(err)
	if !skipped {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Printf("testing: warning: no tests to run\n%s\n", line)
	return 0
}
