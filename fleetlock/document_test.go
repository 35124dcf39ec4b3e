package fleetlock_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/fleetlock"
	"github.com/locksmithd/locksmith/test/must"
)

// page returns the text of docs/fleetlock.md.
func page(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("../docs/fleetlock.md")
	must.Do(t, err)
	return string(data)
}

// Each constant says its code, and the page has a row for it, in the same order.
func TestKindsAreDocumentedWithTheirCodes(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "error.go", nil, parser.ParseComments)
	must.Do(t, err)
	var documented []string
	for _, declaration := range file.Decls {
		for _, spec := range constants(declaration) {
			if name := spec.Names[0].Name; strings.HasPrefix(name, "Kind") {
				kind, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
				must.Do(t, err)
				code, known := fleetlock.Codes[kind]
				if !known || !strings.HasSuffix(strings.TrimSpace(spec.Doc.Text()), fmt.Sprintf("Code %d.", code)) {
					t.Errorf("%s has the code %d, and its comment is %q", name, code, spec.Doc.Text())
				}
				documented = append(documented, fmt.Sprintf("%d %s", code, kind))
			}
		}
	}
	if len(documented) != len(fleetlock.Codes) {
		t.Errorf("there are %d constants, and codes for %q", len(documented), slices.Sorted(maps.Keys(fleetlock.Codes)))
	}
	var rows []string
	for _, m := range regexp.MustCompile("(?m)^\\| (\\d+) \\| `(\\w+)` \\| ").FindAllStringSubmatch(page(t), -1) {
		rows = append(rows, m[1]+" "+m[2])
	}
	if !slices.Equal(rows, documented) {
		t.Errorf("the page has the rows\n%s\nwant\n%s", strings.Join(rows, "\n"), strings.Join(documented, "\n"))
	}
}

// constants returns the constants of a declaration.
func constants(d ast.Decl) (specs []*ast.ValueSpec) {
	if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.CONST {
		for _, spec := range g.Specs {
			specs = append(specs, spec.(*ast.ValueSpec))
		}
	}
	return specs
}

// The exchanges on the page are those of the table, which TestConformance tries.
func TestPageShowsExchangesOfTheTable(t *testing.T) {
	t.Parallel()
	table, err := os.ReadFile("testdata/requests.txt")
	must.Do(t, err)
	shown := regexp.MustCompile("(?s)```\n(> .*?)```\n").FindAllStringSubmatch(page(t), -1)
	if len(shown) < 3 {
		t.Errorf("the page shows %d exchanges", len(shown))
	}
	for _, m := range shown {
		if !strings.Contains("\n"+string(table), "\n"+m[1]+"\n") {
			t.Errorf("the table does not have\n%s", m[1])
		}
	}
}

// What the page says of the servers that it names is what TestAnswers tries.
func TestPageShowsHowTheClientReadsOtherServers(t *testing.T) {
	t.Parallel()
	var want []string
	for _, e := range entries(t, "answers.txt", '<', "=") {
		if !regexp.MustCompile(`^(locksmith|airlock|poseidon|heathcliff26|knubbis)`).MatchString(e.title) {
			continue
		}
		code := strings.Fields(e.message.head.String())[1]
		kind := ""
		if m := regexp.MustCompile(`"kind":"(\w+)"`).FindStringSubmatch(e.message.body.String()); m != nil {
			kind = " `" + m[1] + "`"
		}
		want = append(want, fmt.Sprintf("| %s | %s%s | %s |", e.title, code, kind, strings.TrimPrefix(e.want[0], "= ")))
	}
	if rows := strings.Join(want, "\n"); !strings.Contains(page(t), "\n| --- | --- | --- |\n"+rows+"\n\n") {
		t.Errorf("the page does not have these rows:\n%s", rows)
	}
}
