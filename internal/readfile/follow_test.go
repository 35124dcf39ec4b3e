package readfile_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmithd/locksmith/internal/readfile"
	"github.com/locksmithd/locksmith/test/must"
)

// text is a file that is followed: a line of it that begins with "warn" is logged, and one with "bad" is an error.
type text struct {
	*testing.T
	path     string
	files    *readfile.Followed[string]
	unusable error // for a reason that is not in the file
	reads    int
	log      []string
}

func (x *text) read(was string, news func(string) bool) (string, error) {
	x.reads++
	if x.unusable != nil {
		if news(x.unusable.Error()) {
			x.log = append(x.log, x.unusable.Error())
		}
		return "not used", x.unusable
	}
	content, err := os.ReadFile(x.path)
	must.Do(x, err)
	for line := range strings.Lines(string(content)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "bad") {
			err = errors.New(line)
		}
		if (strings.HasPrefix(line, "warn") || err != nil) && news(line) {
			x.log = append(x.log, line)
		}
	}
	return string(content), err
}

func (x *text) write(content string) {
	x.Helper()
	must.Do(x, os.WriteFile(x.path+"~", []byte(content), 0o600))
	must.Do(x, os.Rename(x.path+"~", x.path))
}

// want checks what is in use a second later, how often the file was read since the last call, and what was logged.
func (x *text) want(content string, reads int, log ...string) {
	x.Helper()
	time.Sleep(time.Second)
	if got := x.files.Current(x.read); got != content || got != x.files.Content() || x.reads != reads || !slices.Equal(x.log, log) {
		x.Errorf("in use is %q after %d reads, want %q after %d; logged is %q, want %q", got, x.reads, content, reads, x.log, log)
	}
	x.reads, x.log = 0, nil
}

func follow(t *testing.T, test func(*text)) {
	synctest.Test(t, func(t *testing.T) {
		x := &text{T: t, path: filepath.Join(t.TempDir(), "file")}
		x.write("1")
		x.files = readfile.Follow[string](x.path)
		x.files.Use("1")
		test(x)
	})
}

func TestFollowedFileIsReadWhenItHasChanged(t *testing.T) {
	follow(t, func(x *text) {
		x.want("1", 0)
		x.write("2")
		if got := x.files.Current(x.read); got != "1" || x.reads != 0 {
			t.Errorf("it is looked at within a second, and has %q", got)
		}
		x.want("2", 1)
		x.want("2", 0)
		x.write("3")
		x.files.Reload(x.read)
		x.want("3", 1)
		x.files.Reload(x.read)
		x.want("3", 1)
	})
}

func TestFollowedFileThatCannotBeUsed(t *testing.T) {
	follow(t, func(x *text) {
		x.write("warn a\nbad b\n")
		x.want("1", 1, "warn a", "bad b")
		x.want("1", 1) // it is tried again, and everything was said
		x.files.Reload(x.read)
		x.want("1", 2, "warn a", "bad b")
		x.write("bad b\n")
		x.want("1", 1, "bad b")
		x.write("2")
		x.want("2", 1)
		x.want("2", 0)
	})
}

// The reason is not in the file, and passes. What else is in the file was not said before.
func TestFollowedFileThatCannotBeUsedForAMoment(t *testing.T) {
	follow(t, func(x *text) {
		x.write("warn a\n")
		x.unusable = errors.New("too many open files")
		x.want("1", 1, "too many open files")
		x.unusable = errors.New("input/output error")
		x.want("1", 1, "input/output error")
		x.unusable = errors.New("too many open files")
		x.want("1", 1)
		x.unusable = nil
		x.want("warn a\n", 1, "warn a")
		x.want("warn a\n", 0)
	})
}
