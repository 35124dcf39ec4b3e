package main

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/realpart"
)

func page(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile("../" + name)
	must.Do(t, err)
	return string(data)
}

// steady returns a text with names in place of what differs from run to run.
func steady(text string) string {
	for _, vary := range []struct{ pattern, name string }{
		{`[A-Z][a-z]{2} \d{4}-\d\d-\d\d \d\d:\d\d:\d\d [A-Z]+`, "TIME"},
		{`\b0{30}\d\d\b`, "ID"},
		{`host-\d\b`, "HOST"},
		{`(<|\b)\d+(\.\d+)? ?m?s\b`, "LENGTH"},
		{`[ \n]+`, " "},
	} {
		text = regexp.MustCompile(vary.pattern).ReplaceAllString(text, vary.name)
	}
	return strings.TrimSpace(text)
}

func TestBadDemoPrintsWhatTheDocumentsShow(t *testing.T) {
	t.Parallel()
	_, section, _ := strings.Cut(page(t, "docs/hooks.md"), "\n## Watch a bad update stop\n")
	section, _, _ = strings.Cut(section, "\n## ")
	blocks := regexp.MustCompile(`(?m)^    .*\n(?:\n?    .*\n)*`).FindAllString(section, -1)
	if len(blocks) != 3 || strings.TrimSpace(blocks[0]) != "make demo UPDATE=bad" {
		t.Fatalf("the section has %d blocks, want the command and two parts of its output: %q", len(blocks), blocks)
	}
	d := start(t, "-update", "bad")
	status, out := d.end()
	for _, block := range blocks[1:] {
		if got, want := steady(out), steady(block); !strings.Contains(got, want) {
			t.Errorf("docs/hooks.md shows\n%s\nwhich is not in\n%s", want, got)
		}
	}
	if status != 0 {
		t.Errorf("exit status %d: %s", status, d.stderr.String())
	}
}

// The commands that the documents show are what the demo takes.
func TestMakeRunsTheDemoAsTheDocumentsShow(t *testing.T) {
	realpart.Must(t, realpart.Tool("make", "make"))
	want := map[string]string{
		"":                "-hosts 3 -max 1 -update ''",
		" UPDATE=bad":     "-hosts 3 -max 1 -update 'bad'",
		" HOSTS=12 MAX=3": "-hosts 12 -max 3 -update ''",
	}
	for _, name := range []string{"README.md", "docs/hooks.md", "CONTRIBUTING.md"} {
		found := regexp.MustCompile("(?m)(?:^    |`)make demo((?: [A-Z]+=\\w+)*)(?:`| *#|$)").FindAllStringSubmatch(page(t, name), -1)
		if len(found) == 0 {
			t.Errorf("%s shows no command", name)
		}
		for _, m := range found {
			cmd := exec.Command("make", append([]string{"-n", "-C", "..", "demo"}, strings.Fields(m[1])...)...)
			cmd.Env = []string{"PATH=" + os.Getenv("PATH")} // no UPDATE from outside
			out, err := cmd.CombinedOutput()
			if args, known := want[m[1]]; err != nil || !known || !strings.Contains(string(out), "bin/demo "+args+"\n") {
				t.Errorf("%s: make demo%s: %v: want %s in\n%s", name, m[1], err, args, out)
			}
		}
	}
}
