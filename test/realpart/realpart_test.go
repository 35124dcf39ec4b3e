package realpart

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// ended records how a test ended, and its message.
type ended struct{ how, message string }

func (*ended) Helper()             {}
func (e *ended) Fatal(args ...any) { e.end("failed", args) }
func (e *ended) Skip(args ...any)  { e.end("skipped", args) }

func (e *ended) end(how string, args []any) {
	*e = ended{how, fmt.Sprint(args...)}
	panic(e)
}

func TestMissingPartSkipsATestOnlyWhereItIsNotRequired(t *testing.T) {
	missing := fmt.Errorf("start a server: %w", Tool("no-such-program", "the-package"))
	for _, test := range []struct {
		name, ci, all string
		err           error
		want          string
	}{
		{"no error", "", "", nil, ""},
		{"go test", "", "", missing, "skipped"},
		{"make test", "", "1", missing, "failed"},
		{"CI", "true", "", missing, "failed"},
		{"not CI", "false", "", missing, "skipped"},
		{"another error", "", "", errors.New("there, but broken"), "failed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("CI", test.ci)
			t.Setenv(Variable, test.all)
			e := &ended{}
			func() {
				defer func() { _ = recover() }()
				Must(e, nil, test.err)
			}()
			if e.how != test.want {
				t.Errorf("the test %s (%s), want %q", e.how, e.message, test.want)
			}
			if e.how == "skipped" && (!strings.Contains(e.message, "no-such-program is missing: apt-get install the-package") || strings.Contains(e.message, "\n")) {
				t.Errorf("the message is %q", e.message)
			}
		})
	}
}
