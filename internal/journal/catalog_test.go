package journal

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/test/must"
)

// module is the folder of the whole module.
const module = "../.."

// messageIDs returns the constants of type MessageID by their names.
func messageIDs(t *testing.T) map[string]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "messageid.go", nil, 0)
	must.Do(t, err)
	ids := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok {
			id, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			must.Do(t, err)
			ids[spec.Names[0].Name] = id
		}
		return true
	})
	if len(ids) < 15 {
		t.Fatalf("messageid.go has only %q", ids)
	}
	return ids
}

// catalogEntry is an entry of systemd/locksmith.catalog.
type catalogEntry struct {
	headers map[string][]string
	text    string
}

func catalog(t *testing.T) map[string]catalogEntry {
	t.Helper()
	data, err := os.ReadFile(module + "/systemd/locksmith.catalog")
	must.Do(t, err)
	entries := map[string]catalogEntry{}
	for _, part := range regexp.MustCompile(`(?m)^-- `).Split(string(data), -1)[1:] {
		id, rest, _ := strings.Cut(part, "\n")
		head, text, _ := strings.Cut(rest, "\n\n")
		e := catalogEntry{map[string][]string{}, strings.TrimSpace(text)}
		for line := range strings.Lines(head) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
			e.headers[name] = append(e.headers[name], value)
		}
		if _, twice := entries[id]; twice {
			t.Errorf("the catalog has %s twice", id)
		}
		entries[id] = e
	}
	return entries
}

// What is logged is explained, and what is explained is logged.
func TestEveryMessageIDHasAnEntryInTheCatalog(t *testing.T) {
	entries, names, seen := catalog(t), messageIDs(t), map[string]string{}
	for name, id := range names {
		if !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(id) {
			t.Errorf("%s is %q, which is not an id", name, id)
		}
		if other := seen[id]; other != "" {
			t.Errorf("%s and %s are the same id", name, other)
		}
		seen[id] = name
		if _, ok := entries[id]; !ok {
			t.Errorf("%s, %s, has no entry in the catalog", name, id)
		}
	}
	for id, e := range entries {
		if seen[id] == "" {
			t.Errorf("the catalog has %s (%s), which is not in messageid.go", id, e.headers["Subject"])
		}
	}
}

func TestEveryMessageIDIsInTheDocument(t *testing.T) {
	page, err := os.ReadFile(module + "/docs/operations.md")
	must.Do(t, err)
	for name, id := range messageIDs(t) {
		if !strings.Contains(string(page), "\n| `"+id+"` | ") {
			t.Errorf("docs/operations.md does not list %s, %s", id, name)
		}
	}
}

func TestEveryMessageIDIsLogged(t *testing.T) {
	var code strings.Builder
	for _, folder := range []string{"internal/daemon", "locksmithd"} {
		files, err := filepath.Glob(filepath.Join(module, folder, "*.go"))
		must.Do(t, err)
		for _, file := range files {
			if !strings.HasSuffix(file, "_test.go") {
				data, err := os.ReadFile(file)
				must.Do(t, err)
				code.Write(data)
			}
		}
	}
	for name := range messageIDs(t) {
		if !regexp.MustCompile(`\bjournal\.` + name + `\b`).MatchString(code.String()) {
			t.Errorf("no line has the id %s", name)
		}
	}
}

// Entries are complete: what happened, what comes next, what to do; they name only fields that their lines have.
func TestEntriesOfTheCatalogAreComplete(t *testing.T) {
	var fields []string
	for _, f := range (Facts{State: "x", Group: "x", Version: "x", Reason: "x"}).fields() {
		fields = append(fields, f.name)
	}
	for id, e := range catalog(t) {
		for _, header := range []string{"Subject", "Defined-By", "Support", "Documentation"} {
			if len(e.headers[header]) == 0 {
				t.Errorf("%s has no header %s", id, header)
			}
		}
		if n := strings.Count(e.text, "\n\n") + 1; n != 3 {
			t.Errorf("%s has %d paragraphs, want 3", id, n)
		}
		for _, m := range regexp.MustCompile(`@([^@]*)@`).FindAllStringSubmatch(e.text, -1) {
			refused := id == string(ConfigRefused) && m[1] != "LOCKSMITH_REASON"
			if !slices.Contains(fields, m[1]) || refused {
				t.Errorf("%s names the field %q, which not all of its lines have", id, m[1])
			}
		}
		for line := range strings.Lines(e.text) {
			if len(line) > 90 {
				t.Errorf("%s has a line of %d bytes, too long for a terminal:\n%s", id, len(line), line)
			}
		}
		for _, link := range e.headers["Documentation"] {
			if page, ok := strings.CutPrefix(link, "https://github.com/locksmithd/locksmith/blob/main/"); ok {
				wantHeading(t, page)
			}
		}
	}
}

// wantHeading fails the test unless a page of the module has the heading of a link.
func wantHeading(t *testing.T, link string) {
	t.Helper()
	page, heading, some := strings.Cut(link, "#")
	data, err := fs.ReadFile(os.DirFS(module), path.Clean(page))
	must.Do(t, err)
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(string(data), -1) {
		name := regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		if strings.ReplaceAll(name, " ", "-") == heading {
			return
		}
	}
	if some {
		t.Errorf("%s has no heading %q", page, heading)
	}
}
