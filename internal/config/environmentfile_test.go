package config

import (
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/locksmithd/locksmith/test/must"
)

// environmentFileTests are also given to a real systemd. A nil want is a file that is refused as a whole.
var environmentFileTests = []struct {
	name string
	in   string
	want map[string]string
}{
	{"empty", "", map[string]string{}},
	{"only white space", " \n\t\r\n", map[string]string{}},
	{"blank first line", "\nA=1\n", map[string]string{"A": "1"}},
	{"no final newline", "A=1", map[string]string{"A": "1"}},
	{"comments", "# A=1\n; B=2\n  # C=3\nD=4\n", map[string]string{"D": "4"}},
	{"a comment character inside a value", "A=1 # one\nB=\"2\" ; two\n", map[string]string{"A": "1 # one", "B": "2; two"}},
	{"a comment that ends in a backslash ends", "# 1 \\\nA=2\n", map[string]string{"A": "2"}},
	{"a quote in a comment", "# A='\n; A='\nA=1\n", map[string]string{"A": "1"}},
	{"a carriage return ends a comment", "# A\rA=1\n", map[string]string{"A": "1"}},
	{"a carriage return ends a line without a value", "A\rB=1\n", map[string]string{"B": "1"}},
	{"quotes", "A=\"x y\"\nB='x y'\nC=x y\n", map[string]string{"A": "x y", "B": "x y", "C": "x y"}},
	{"empty values", "A=\nB=\"\"\nC=''\nD=  \n", map[string]string{"A": "", "B": "", "C": "", "D": ""}},
	{"parts in quotes are joined", `A="a "'b ' "c"d` + "\n", map[string]string{"A": "a b cd"}},
	{"quotes in an unquoted rest mean themselves", `A=a"b"'c'` + "\n", map[string]string{"A": `a"b"'c'`}},
	{"escapes in double quotes", `A="\"\\\` + "`" + `\$\n\a\'"` + "\n", map[string]string{"A": "\"\\`$\\n\\a\\'"}},
	{"escapes in single quotes", `A='\"\\'` + "\n", map[string]string{"A": `\"\\`}},
	{"escapes without quotes", `A=\"\\\a\ \'x` + "\n", map[string]string{"A": `"\a 'x`}},
	{"lines inside of quotes", "A='x\ny'\nB=\"x\ny\"\n", map[string]string{"A": "x\ny", "B": "x\ny"}},
	{"continuation", "A=x\\\ny\nB=\"x\\\ny\"\nC='x\\\ny'\n", map[string]string{"A": "xy", "B": "xy", "C": "x\\\ny"}},
	{"continuation keeps indentation", "A=x \\\n  y\n", map[string]string{"A": "x   y"}},
	{"continuation at the end", "A=x \\", map[string]string{"A": "x "}},
	{"continuation before a quote", "A=\\\n\"x\"\n", map[string]string{"A": `"x"`}},
	{"white space around a value", "A=  x  \nB= \t\"x \" \t\n", map[string]string{"A": "x", "B": "x "}},
	{"white space around a name", " A =1\n\tB\t=2\n", map[string]string{"A": "1", "B": "2"}},
	{"a protected space at the end", "A=x\\  \n", map[string]string{"A": "x "}},
	{"carriage returns", "A=1\r\nB=\"2\"\r\n\r\nC=3\rD=4", map[string]string{"A": "1", "B": "2", "C": "3", "D": "4"}},
	{"an escaped carriage return", "A=x\\\r\nB=2\n", map[string]string{"A": "x", "B": "2"}},
	{"open quotes", "A='x\nB=2\n", map[string]string{"A": "x\nB=2\n"}},
	{"open double quotes", "A=\"x\\", map[string]string{"A": "x"}},
	{"the last assignment wins", "A=1\nA=2\nB=1\nB=\n", map[string]string{"A": "2", "B": ""}},
	{"lines that are no assignment", "A\n=1\n1A=1\nA-B=1\nexport A=1\nA B=1\n\xc3\xa9=1\nC=3\n", map[string]string{"C": "3"}},
	{"an equals sign that begins a line", "=\"x=\nA=1\n=B=\"\nC=\"\n", map[string]string{"A": "1"}},
	{"an equals sign in a value", "A=b=c\n", map[string]string{"A": "b=c"}},
	{"a dollar sign is no variable", "A=1\nB=$A\nC=\"${A}\"\n", map[string]string{"A": "1", "B": "$A", "C": "${A}"}},
	{"a byte order mark spoils the first name", "\ufeffA=1\nB=2\n", map[string]string{"B": "2"}},
	{"control characters", "A=\x01\nB=\"\x7f\t\"\n", map[string]string{"A": "\x01", "B": "\x7f\t"}},
	{"not UTF-8 in a value", "A=1\nB=\xff\n", nil},
	{"not UTF-8 in a name", "A=1\n\xff=2\n", nil},
	{"not UTF-8 in a comment", "# \xff\nA=1\n", map[string]string{"A": "1"}},
	{"not UTF-8 in a line that is no assignment", "\xff\nA=1\n", map[string]string{"A": "1"}},
	{"a surrogate", "A=\xed\xa0\x80\n", nil},
	{"a noncharacter", "A=\uffff\n", nil},
	{"NUL in a value", "A=x\x00y\n", nil},
	{"NUL in a comment", "# \x00\nA=1\n", nil},
	{
		"what the transpiler writes",
		"\nGROUP=stable\nSERVER=disabled\nREBOOT_STRATEGY=\"etcd-lock\"\nLOCKSMITHD_REBOOT_WINDOW_START=\"Thu 04:00\"",
		map[string]string{
			"GROUP": "stable", "SERVER": "disabled", "REBOOT_STRATEGY": "etcd-lock",
			"LOCKSMITHD_REBOOT_WINDOW_START": "Thu 04:00",
		},
	},
}

func TestEnvironmentFileSyntax(t *testing.T) {
	for _, test := range environmentFileTests {
		t.Run(test.name, func(t *testing.T) {
			f, err := parseEnvironmentFile([]byte(test.in))
			switch {
			case err != nil && test.want != nil:
				t.Fatal(err)
			case err == nil && test.want == nil:
				t.Fatalf("accepted as %q", effective(f))
			case err == nil && !maps.Equal(effective(f), test.want):
				t.Fatalf("got %q, want %q", effective(f), test.want)
			}
		})
	}
}

func TestEnvironmentFileKnowsItsLines(t *testing.T) {
	f, err := parseEnvironmentFile([]byte("\n# comment\nA=1\r\nB='x\ny'\n\nexport C=1\n D=\\\n4\nA=5"))
	must.Do(t, err)
	want := []assignment{{"A", "1", 3, "1"}, {"B", "x\ny", 4, "'x\ny'"}, {"D", "4", 8, "\\\n4"}, {"A", "5", 10, "5"}}
	if len(f.assignments) != len(want) {
		t.Fatalf("got %v, want %v", f.assignments, want)
	}
	for i, a := range f.assignments {
		if a != want[i] {
			t.Errorf("got %v, want %v", a, want[i])
		}
	}
	if len(f.ignored) != 1 || f.ignored[0] != (ignoredLine{"export C", 7}) {
		t.Errorf("ignored %v, want line 7", f.ignored)
	}
}

func TestBadFilesGetOneErrorThatNamesThem(t *testing.T) {
	dir := t.TempDir()
	tests := []struct {
		name string
		make func(path string) error
		want string
	}{
		{"directory", func(p string) error { return os.Mkdir(p, 0o755) }, "it is a directory"},
		{"pipe", func(p string) error { return syscall.Mkfifo(p, 0o644) }, "not a regular file"},
		{"device", func(p string) error { return os.Symlink("/dev/zero", p) }, "not a regular file"},
		{"loop", func(p string) error { return os.Symlink(p, p) }, "too many levels of symbolic links"},
		{"100 MB", func(p string) error {
			if err := os.WriteFile(p, []byte("A=1\n"), 0o644); err != nil {
				return err
			}
			return os.Truncate(p, 100_000_000)
		}, "larger than 1048576 bytes"},
		{"not UTF-8", func(p string) error { return os.WriteFile(p, []byte("A=1\nB=\xe9\n"), 0o644) }, "line 2 is not UTF-8"},
		{"NUL", func(p string) error { return os.WriteFile(p, []byte("A=1\n\nB=\x00\n"), 0o644) }, "line 3 holds a NUL byte"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(dir, test.name)
			must.Do(t, test.make(path))
			_, err := readEnvironmentFile(path)
			if err == nil {
				t.Fatal("accepted")
			}
			if msg := err.Error(); !strings.Contains(msg, path) || !strings.Contains(msg, test.want) || strings.Contains(msg, "\n") {
				t.Errorf("error %q, want one line with %q and %q", msg, path, test.want)
			}
			if strings.Count(err.Error(), path) != 1 {
				t.Errorf("error %q says the path more than once", err)
			}
		})
	}
}

func TestUnreadableFileIsNamed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "update.conf")
	must.Do(t, os.WriteFile(path, []byte("A=1\n"), 0))
	read := make(chan error)
	go func() {
		if os.Geteuid() == 0 {
			// Root may read anything. This thread, which ends with the goroutine, goes on as nobody.
			runtime.LockOSThread()
			if err := syscall.Setfsuid(65534); err != nil {
				t.Error(err)
			}
		}
		_, err := readEnvironmentFile(path)
		read <- err
	}()
	if err := <-read; err == nil || err.Error() != "read "+path+": permission denied" {
		t.Errorf("error %v, want permission denied for %s", err, path)
	}
}

func TestMissingAndMaskedFilesAreEmpty(t *testing.T) {
	dir := t.TempDir()
	masked := filepath.Join(dir, "masked")
	must.Do(t, os.Symlink("/dev/null", masked))
	plain := filepath.Join(dir, "plain")
	must.Do(t, os.WriteFile(plain, nil, 0o644))
	for _, path := range []string{masked, filepath.Join(dir, "missing"), filepath.Join(dir, "missing/too"), filepath.Join(plain, "below")} {
		f, err := readEnvironmentFile(path)
		if err != nil || len(f.assignments) > 0 {
			t.Errorf("%s: got %v, %v, want nothing", path, f, err)
		}
	}
}

// quote returns a value as an environment file has to have it.
func quote(value string) string {
	return `"` + strings.NewReplacer(`"`, `\"`, `\`, `\\`, "`", "\\`", `$`, `\$`).Replace(value) + `"`
}

func FuzzEnvironmentFile(f *testing.F) {
	for _, test := range environmentFileTests {
		f.Add([]byte(test.in))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		first, err := parseEnvironmentFile(data)
		if err != nil {
			return
		}
		var written strings.Builder
		for _, a := range first.assignments {
			written.WriteString(a.name + "=" + quote(a.value) + "\n")
		}
		second, err := parseEnvironmentFile([]byte(written.String()))
		if err != nil {
			t.Fatalf("%q was accepted, but not as %q: %v", data, written.String(), err)
		}
		if len(first.assignments) != len(second.assignments) {
			t.Fatalf("%q gave %v, written as %q it gives %v", data, first, written.String(), second)
		}
		for i, a := range first.assignments {
			if b := second.assignments[i]; a.name != b.name || a.value != b.value {
				t.Fatalf("%q gave %v, written as %q it gives %v", data, a, written.String(), b)
			}
			if a.line < 1 || a.line > 1+strings.Count(string(data), "\n") {
				t.Fatalf("%q: %v has no line", data, a)
			}
		}
	})
}
