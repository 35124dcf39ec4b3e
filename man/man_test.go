package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/internal/config"
	"github.com/locksmithd/locksmith/test/contains"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/realpart"
)

// newGenerator builds the two programs that the pages are made from.
func newGenerator(t *testing.T) generator {
	t.Helper()
	g := generator{source: "..", programs: t.TempDir(), version: "1.2.3", date: 1700000001}
	build := exec.Command("go", "build", "-o", g.programs, "../locksmithd", "../locksmithctl")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return g
}

// rendered returns the text of a page, with each run of white space as one blank.
func rendered(t *testing.T, page string) string {
	t.Helper()
	realpart.Must(t, realpart.Tool("mandoc", "mandoc"))
	cmd := exec.Command("mandoc", "-Tascii")
	cmd.Stdin = strings.NewReader(page)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("mandoc: %v", err)
	}
	overstrike := regexp.MustCompile(`.\x08`)
	return strings.Join(strings.Fields(overstrike.ReplaceAllString(string(out), "")), " ")
}

func TestPagesAreValidToMandoc(t *testing.T) {
	realpart.Must(t, realpart.Tool("mandoc", "mandoc"))
	dir := t.TempDir()
	must.Do(t, newGenerator(t).write(dir))
	pages, err := filepath.Glob(filepath.Join(dir, "man/man?/*"))
	if err != nil || len(pages) != 4 {
		t.Fatalf("there are the pages %q (%v), want 4", pages, err)
	}
	for _, page := range pages {
		if out, err := exec.Command("mandoc", "-Tlint", page).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("mandoc -Tlint: %v: %s", err, out)
		}
	}
}

func TestEverySettingIsInThePages(t *testing.T) {
	g := newGenerator(t)
	var text [3]string
	for i, name := range []string{"update.conf.5", "locksmithctl.1", "locksmithd.8"} {
		page, err := g.page(name)
		must.Do(t, err)
		text[i] = rendered(t, page)
	}
	for _, d := range config.Definitions() {
		where := d.Name + " " + d.Variable
		if d.Prefixed != "" {
			where += " or " + d.Prefixed
		}
		if d.Fallback != "" {
			where += ", else " + d.Fallback
		}
		if d.Flag {
			where += ", in the environment of locksmithctl " + d.CLIVariable()
			if want := d.CLIVariable() + " " + d.Description; !strings.Contains(text[1], want) {
				t.Errorf("locksmithctl(1) does not have %q", want)
			}
			where += ", flag -" + d.Name
			want := "-" + d.Name
			if !d.Switch {
				want += " value"
			}
			if want += " " + d.Description; !strings.Contains(text[2], want) {
				t.Errorf("locksmithd(8) does not have %q", want)
			}
		}
		if !strings.Contains(text[0], where) {
			t.Errorf("update.conf(5) does not have %q", where)
		}
	}
}

func TestEveryCommandIsInThePageWithItsFlags(t *testing.T) {
	g := newGenerator(t)
	page, err := g.page("locksmithctl.1")
	must.Do(t, err)
	text := rendered(t, page)
	about, err := g.output("locksmithctl", "help")
	must.Do(t, err)
	commands := regexp.MustCompile(`(?m)^  ([a-z-]+)  +`).FindAllStringSubmatch(about, -1)
	if len(commands) < 12 {
		t.Fatalf("locksmithctl help lists the commands %q", commands)
	}
	for _, m := range append(commands, []string{"", ""}) {
		help, err := g.output("locksmithctl", "help", m[1])
		if m[1] == "" {
			help = about
		} else if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(help) {
			fields := strings.Join(strings.Fields(line), " ")
			heading := fields == "Usage:" || fields == "Flags:" || fields == "Commands:"
			listed := strings.HasPrefix(fields, `"locksmithctl help"`) || m[1] != "" && strings.HasPrefix(fields, "-h, -help ")
			if m[1] == "" && (fields == "locksmithctl COMMAND" || regexp.MustCompile(`^  [a-z-]+  `).MatchString(line)) {
				continue // the page has a section for each command instead
			}
			if !heading && !listed && !strings.Contains(text, fields) {
				t.Errorf("the page does not have %q, which %q says", fields, "locksmithctl help "+m[1])
			}
		}
	}
}

func TestFlagsOfTheProgramForKubernetesAreInItsPage(t *testing.T) {
	page, err := generator{source: ".."}.page("locksmith-kubernetes.8")
	must.Do(t, err)
	if text := rendered(t, page); !contains.All(text, "--timeout (drain, default: 10m) ", "--node (all, default: ", "--cancelled (uncordon) ") {
		t.Errorf("flags are missing in the page:\n%s", text)
	}
}

func TestRoff(t *testing.T) {
	for _, test := range []struct{ name, markdown, want string }{
		{"headings", "# NAME\n\n## a-b\n\ntext", ".SH NAME\n.SS a\\-b\ntext\n"},
		{"paragraphs", "one\ntwo\n\nthree\n", ".PP\none two\n.PP\nthree\n"},
		{"requests are text", ".SH\n\n'x `.`", ".PP\n\\&.SH\n.PP\n\\(aqx \\fB.\\fP\n"},
		{"escapes", "a\\b ^~ -x é", ".PP\na\\eb \\(ha\\(ti \\%\\-x \\[u00E9]\n"},
		{"code", "`a` ``b`c`` **d** *e*", ".PP\n\\fBa\\fP \\fBb\\(gac\\fP \\fBd\\fP \\fIe\\fP\n"},
		{"links", "[a](#b) [c](https://d)", ".PP\na c \\%<https://d>\n"},
		{"names stay in one piece", "`A_B`", ".PP\n\\%\\fBA_B\\fP\n"},
		{"bullets", "* a\n  b\n* c", ".IP \\(bu 3\na b\n.IP \\(bu 3\nc\n"},
		{"numbers", "1. a\n   b\n2. c", ".IP 1. 4\na b\n.IP 2. 4\nc\n"},
		{"terms", "`a`, `b`\n: c\nd", ".TP\n\\fBa\\fP, \\fBb\\fP\nc d\n"},
		{"tables", "| a | b |\n| --- | --- |\n| c | d e |\n", ".TP\nc\nd e\n"},
		{"indented text", "a:\n\n    b\n\n      c\n\nd", ".PP\na:\n.PP\n.RS 4\n.EX\nb\n\n  c\n.EE\n.RE\n.PP\nd\n"},
		{"fenced text", "```conf\n# a\n.b\n```", ".PP\n.RS 4\n.EX\n# a\n\\&.b\n.EE\n.RE\n"},
		{"long lines", strings.Repeat("abcdefgh ", 12), ".PP\n" + strings.TrimSpace(strings.Repeat("abcdefgh ", 9)) + "\n" + strings.TrimSpace(strings.Repeat("abcdefgh ", 3)) + "\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := roff("", test.markdown)
			if got = strings.TrimPrefix(got, ".ad l\n"); err != nil || got != test.want {
				t.Errorf("roff returns %q (%v), want %q", got, err, test.want)
			}
		})
	}
}

func TestUnsupportedMarkdownIsRefused(t *testing.T) {
	for _, markdown := range []string{
		"### a", "> a", "<!-- a -->", "![a](b)", "- a", "+ a", " a", "a `b", "```\na",
		"| a |", "| a | b | c |\n| --- | --- | --- |\n| d | e | f |\n",
	} {
		if got, err := roff("", markdown); err == nil {
			t.Errorf("roff makes %q of %q", got, markdown)
		}
	}
}
