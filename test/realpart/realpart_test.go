package realpart

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// ended is how a test ended, and with which words.
type ended struct{ how, words string }

func (*ended) Helper()             {}
func (e *ended) Fatal(args ...any) { e.end("failed", args) }
func (e *ended) Skip(args ...any)  { e.end("left out", args) }

func (e *ended) end(how string, args []any) {
	*e = ended{how, fmt.Sprint(args...)}
	panic(e)
}

func TestAMissingPartIsLeftOutOnlyWhereItIsNotRequired(t *testing.T) {
	missing := fmt.Errorf("start a server: %w", Tool("no-such-program", "the-package"))
	for _, test := range []struct {
		name, ci, all string
		err           error
		want          string
	}{
		{"nothing is wrong", "", "", nil, ""},
		{"go test", "", "", missing, "left out"},
		{"make test", "", "1", missing, "failed"},
		{"CI", "true", "", missing, "failed"},
		{"not CI", "false", "", missing, "left out"},
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
				t.Errorf("the test %s (%s), want %q", e.how, e.words, test.want)
			}
			if e.how == "left out" && (!strings.Contains(e.words, "no-such-program is missing: apt-get install the-package") || strings.Contains(e.words, "\n")) {
				t.Errorf("it says %q", e.words)
			}
		})
	}
}
