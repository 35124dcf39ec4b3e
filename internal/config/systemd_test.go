package config

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/nspawntest"
	"github.com/locksmithd/locksmith/test/randtest"
)

// TestUpdateConfIsReadAsSystemdReadsIt gives the same files to our parser and to a
// real systemd, booted in a container, as EnvironmentFile=, and compares what comes out.
func TestUpdateConfIsReadAsSystemdReadsIt(t *testing.T) {
	version := nspawntest.Require(t)
	seed := randtest.Seed(t)
	random := rand.New(rand.NewPCG(seed, 0))

	var inputs []string
	for _, test := range environmentFileTests {
		inputs = append(inputs, test.in)
	}
	for range 600 {
		inputs = append(inputs, randomEnvironmentFile(random))
	}
	if version < 254 {
		// Such a systemd continues a comment that ends in a backslash; our parser follows newer ones.
		inputs = withoutContinuedComments(inputs)
	}

	files := make([][]string, len(inputs))
	for i, in := range inputs {
		files[i] = []string{in}
	}
	for i, got := range readBySystemd(t, files) {
		want, err := parseEnvironmentFile([]byte(inputs[i]))
		switch {
		case err != nil && got != nil:
			t.Errorf("we refuse %q (%v), systemd reads %q", inputs[i], err, got)
		case err == nil && got == nil:
			t.Errorf("we read %q as %q, systemd refuses it", inputs[i], effective(want))
		case err == nil && !maps.Equal(effective(want), got):
			t.Errorf("we read %q as %q, systemd as %q", inputs[i], effective(want), got)
		}
	}
}

// TestBothUpdateConfFilesAreMergedAsSystemdMergesThem compares what a service of a real systemd sees of two files with
// what we read in them, above all where the stronger one has an empty value.
func TestBothUpdateConfFilesAreMergedAsSystemdMergesThem(t *testing.T) {
	nspawntest.Require(t)
	random := rand.New(rand.NewPCG(randtest.Seed(t), 0))

	var cases [][]string
	for range 100 {
		var both []string
		for range 2 {
			var b strings.Builder
			for _, d := range Definitions() {
				for _, name := range d.variables() {
					if value := []string{"-", "", "'a b'", "1", "2"}[random.IntN(5)]; value != "-" {
						b.WriteString(name + "=" + value + "\n")
					}
				}
			}
			both = append(both, b.String())
		}
		cases = append(cases, both)
	}
	for i, got := range readBySystemd(t, cases) {
		root := newRoot(t, map[string]string{usr: cases[i][0], etc: cases[i][1]})
		files, err := readFiles(root)
		must.Do(t, err)
		want := map[string]string{}
		for _, d := range Definitions() {
			for _, name := range d.variables() {
				if v, ok := files.lookup(name); ok {
					want[name] = v.value
				}
			}
		}
		if !maps.Equal(want, got) {
			t.Errorf("we merge %q to %q, systemd to %q", cases[i], want, got)
		}
	}
}

// effective returns the variables of f as a process would see them.
func effective(f environmentFile) map[string]string {
	m := map[string]string{}
	for _, a := range f.assignments {
		m[a.name] = a.value
	}
	return m
}

// randomEnvironmentFile returns a file of some lines that are nearly right.
func randomEnvironmentFile(r *rand.Rand) string {
	names := []string{"A", "B", "C_1", "_", "ABC", " A", "A ", "A\t", "1A", "A-B", "export A", "", "é"}
	pieces := []string{
		"a", "b", "1", "é", "日本", " ", "  ", "\t", "'", "'", `"`, `"`, `\`, `\`, "\n", "\r", "\r\n", "#", ";", "=", "$", "`",
		`\n`, `\"`, `\'`, `\\`, "\\\n", "\\\r", "\\\r\n", `\$`, "\\`", "\v", "\f", "\x01", "\x7f", "$A", "x y", "A=b", "\n A=",
		`"a b"`, `'a b'`, `"a\"b"`, "'a\nb'",
	}
	rare := []string{"\xff", "\xc3", "\xed\xa0\x80", "\uffff", "\ufdd0", "\U0001fffe", "\ufeff", "\x00"}
	ends := []string{"\n", "\n", "\n", "\n\n", "\r\n", "\r", ""}
	pick := func(list []string) string { return list[r.IntN(len(list))] }

	var b strings.Builder
	for range 1 + r.IntN(4) {
		switch r.IntN(8) {
		case 0:
			b.WriteString(pick([]string{"#", ";", " # ", "\t;"}))
		case 1:
		default:
			b.WriteString(pick(names) + "=")
		}
		for range r.IntN(9) {
			if r.IntN(100) == 0 {
				b.WriteString(pick(rare))
			} else {
				b.WriteString(pick(pieces))
			}
		}
		b.WriteString(pick(ends))
	}
	return b.String()
}

func withoutContinuedComments(inputs []string) []string {
	continued := regexp.MustCompile(`[#;][^\r\n]*\\[\r\n]`)
	var kept []string
	for _, in := range inputs {
		if !continued.MatchString(in) {
			kept = append(kept, in)
		}
	}
	return kept
}

// readBySystemd boots systemd in a container that has nothing but the host's
// /usr, has it start one service for each case, with the files of the case as
// its EnvironmentFile= in that order, and returns the variables each service saw,
// nil where systemd refused a file.
func readBySystemd(t *testing.T, cases [][]string) []map[string]string {
	t.Helper()
	m := nspawntest.New(t, "/")
	// The first case, an empty file, shows the variables that systemd adds itself.
	cases = append([][]string{{""}}, cases...)
	var units []string
	for i, files := range cases {
		for j, content := range files {
			m.Write(fmt.Sprintf("/cases/%d/%d", i, j), content)
		}
		units = append(units, fmt.Sprintf("case@%d.service", i))
	}
	m.Write("/etc/systemd/system/case@.service", `[Unit]
DefaultDependencies=no
[Service]
Type=oneshot
EnvironmentFile=/cases/%i/*
ExecStart=/usr/bin/env -0
StandardOutput=file:/out/%i
StandardError=null
`)
	m.Write("/etc/systemd/system/end.service", `[Unit]
DefaultDependencies=no
[Service]
Type=oneshot
ExecStart=/usr/bin/touch /out/end
ExecStart=/usr/bin/systemctl --force --force poweroff
`)
	var order strings.Builder
	for _, unit := range units {
		order.WriteString("After=" + unit + "\n")
	}
	m.Write("/etc/systemd/system/end.service.d/order.conf", "[Unit]\n"+order.String())
	m.Write("/etc/systemd/system/cases.target", "[Unit]\nDefaultDependencies=no\nWants=end.service\n"+
		strings.ReplaceAll(order.String(), "After=", "Wants="))

	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	_, console, err := m.Boot(ctx, "cases.target")
	if err != nil {
		t.Fatalf("boot systemd in a container: %v\n%s", err, console)
	}
	if _, err := os.Stat(m.Path("/out/end")); err != nil {
		t.Fatalf("systemd in the container did not come to the end of the cases: %v\n%s", err, console)
	}

	read := func(i int) map[string]string {
		data, err := os.ReadFile(m.Path("/out/" + strconv.Itoa(i)))
		if err != nil {
			return nil
		}
		vars := map[string]string{}
		for v := range strings.SplitSeq(strings.TrimSuffix(string(data), "\x00"), "\x00") {
			name, value, _ := strings.Cut(v, "=")
			vars[name] = value
		}
		return vars
	}
	own := read(0)
	if len(own) == 0 {
		t.Fatalf("systemd in the container did not run the empty case\n%s", console)
	}
	var results []map[string]string
	for i := range cases[1:] {
		result := read(i + 1)
		for name := range own {
			delete(result, name)
		}
		results = append(results, result)
	}
	return results
}
