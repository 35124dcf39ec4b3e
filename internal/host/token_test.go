package host

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/test/must"
)

func TestTokensOfEarlierBootsAreKept(t *testing.T) {
	root, boot := newRoot(t, nil), Boot{ID: "boot-1"}
	tokens := func() []string {
		t.Helper()
		_, disk, err := Self(root, boot)
		must.Do(t, err)
		return disk
	}
	var made []string
	for range 2 {
		token, err := NewToken(root, boot)
		must.Do(t, err)
		if len(token) != 32 || slices.Contains(made, token) {
			t.Errorf("the token is %q after %q", token, made)
		}
		made = append([]string{token}, made...)
	}
	if got := tokens(); got != nil {
		t.Errorf("in the boot that made them there are %q", got)
	}
	info, err := os.Stat(filepath.Join(root, tokenFile))
	must.Do(t, err)
	if info.Mode() != 0o600 {
		t.Errorf("the mode of the file is %v", info.Mode())
	}
	boot.ID = "boot-1+1"
	if got := tokens(); !slices.Equal(got, made) {
		t.Errorf("after a reboot there are %q, want %q", got, made)
	}
	for i := range 2 * keptTokens {
		boot.ID = fmt.Sprintf("boot-%d", i+3)
		token, err := NewToken(root, boot)
		must.Do(t, err)
		made = append([]string{token}, made...)
	}
	boot.ID = "last"
	if got := tokens(); !slices.Equal(got, made[:keptTokens]) {
		t.Errorf("in the end there are %q, want %q", got, made[:keptTokens])
	}
	files, err := os.ReadDir(filepath.Join(root, filepath.Dir(tokenFile)))
	must.Do(t, err)
	if len(files) != 1 {
		t.Errorf("left behind: %v", files)
	}
}

func TestTokenFileThatIsDamagedSaysNothing(t *testing.T) {
	good := strings.Repeat("0f", 16)
	root := newRoot(t, map[string]string{tokenFile: "\x00\x01\nword boot\n" + good + "\n" + good + " boot-0\n0f0f boot-0\n" + good[1:] + "g boot-0\n" + good + " torn"})
	_, disk, err := Self(root, Boot{ID: "boot-1"})
	must.Do(t, err)
	if !slices.Equal(disk, []string{good}) {
		t.Errorf("there are %q", disk)
	}
}

func TestTokenThatCannotBeWrittenIsAnError(t *testing.T) {
	for what, file := range map[string]string{
		"a file in the place of the folder":   "/var/lib/locksmith",
		"a folder in the place of the tokens": tokenFile + "/x",
	} {
		root := newRoot(t, map[string]string{file: "kept"})
		token, err := NewToken(root, Boot{ID: "boot-1"})
		if err == nil || token != "" || !strings.Contains(err.Error(), tokenFile) {
			t.Errorf("%s: %q, %v", what, token, err)
		}
		if content, err := os.ReadFile(filepath.Join(root, file)); err != nil || string(content) != "kept" {
			t.Errorf("%s: it is %q, %v", what, content, err)
		}
		if _, _, err := Self(root, Boot{ID: "boot-1"}); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}
