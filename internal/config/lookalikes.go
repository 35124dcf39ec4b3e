package config

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/locksmithd/locksmith/systemd"
)

// What looks like a setting but is not gets a warning that names the file, the line, and what to write. It never
// counts as a setting: only what systemd reads is in force.

const (
	maxWarnings = 20   // about look-alikes, and a line that counts the rest
	maxName     = 64   // bytes that a warning repeats of a name
	maxText     = 4096 // bytes of a value or line that are looked at
)

// oldFiles are the places of the files before Flatcar. A link to the new ones is fine.
var oldFiles = [...]string{"/etc/coreos/update.conf", "/usr/share/coreos/update.conf"}

// lookalikes returns a warning for everything in the files, and in the environments of the programs, that looks
// like a setting but is not. daemon may be nil.
func lookalikes(root string, own, daemon *fragments) []string {
	var warnings []string
	v := newVocabulary()
	for _, f := range own.files {
		warnings = append(warnings, v.lookalikes(f)...)
	}
	for _, path := range oldFiles {
		warnings = append(warnings, v.unread(own.files, filepath.Join(root, path)))
	}
	for _, f := range []*fragments{own, daemon} {
		if f == nil {
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(f.environ)) {
			if _, ok := f.files.lookup(name); !ok { // the daemon's has everything that the files have
				warnings = append(warnings, v.lookalike(f, name))
			}
		}
	}
	warnings = slices.DeleteFunc(warnings, func(w string) bool { return w == "" })
	if n := len(warnings) - maxWarnings; n > 0 {
		warnings = append(warnings[:maxWarnings], fmt.Sprintf("%d more lines look like settings but are not", n))
	}
	return warnings
}

func (v vocabulary) lookalikes(f environmentFile) []string {
	warnings := map[int][]string{} // by line
	warn := func(line int, format string, args ...any) {
		warnings[line] = append(warnings[line], fmt.Sprintf("%s:%d: ", f.path, line)+fmt.Sprintf(format, args...))
	}
	for _, a := range f.assignments {
		variable, meant := v.has(a.name), v.intended(a.name)
		switch glued := v.in(a.value, "="); {
		case len(glued) > 0 && a.name == "Environment":
			warn(a.line, "Environment= belongs in a unit, and does not set %s here: write %s=VALUE", strings.Join(glued, ", "), glued[0])
		case len(glued) > 0:
			warn(a.line, "%s does not set %s, which has become part of its value: write %s=VALUE on a line of its own, and close quotes before it",
				shorten(a.name, maxName), strings.Join(glued, ", "), glued[0])
		case variable && strings.Contains(a.raw, `\n`):
			warn(a.line, `the value of %s has a \n in it, which does not end the line: begin a new line there, or leave the \n out`, a.name)
		case variable:
		case meant != "":
			warn(a.line, "%s is not a setting of this file, did you mean %s?", shorten(a.name, maxName), meant)
		case strings.HasPrefix(strings.ToUpper(a.name), "LOCKSMITH"), strings.HasPrefix(strings.ToUpper(a.name), "REBOOT_"):
			warn(a.line, "%s is not a setting of this file", shorten(a.name, maxName))
		}
	}
	inSection := false
	for _, i := range f.ignored {
		key := yamlKey(i.text)
		inSection = inSection || key == "LOCKSMITH"
		found := v.in(normal(i.text), "")
		if len(found) == 0 && (inSection || strings.Contains(key, "_")) { // "group:" alone is another program's
			if meant := v.intended("LOCKSMITHD_" + key); meant != "" {
				found = []string{meant}
			}
		}
		switch {
		case len(found) == 0:
		case key != "":
			warn(i.line, "this line looks like YAML, is ignored and does not set %s: write %[1]s=VALUE", found[0])
		case !strings.Contains(i.text, found[0]):
			warn(i.line, "this line is ignored and does not set %s: write %[1]s=VALUE, with the name spelled like this", found[0])
		default:
			warn(i.line, "this line is ignored and does not set %s: write %[1]s=VALUE, with nothing before it", found[0])
		}
	}
	for _, c := range f.comments {
		// A variable behind other text comes from a line that was appended without a line break before it.
		if name := v.glued(c.text); name != "" {
			warn(c.line, "%s is part of a comment, and is not set: write %[1]s=VALUE on a line of its own", name)
		}
	}
	var sorted []string
	for _, line := range slices.Sorted(maps.Keys(warnings)) {
		sorted = append(sorted, warnings[line]...)
	}
	return sorted
}

// unread returns a warning if path is a file of its own, which nobody reads, and has settings that are not in force.
func (v vocabulary) unread(files confFiles, path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return ""
	}
	for _, f := range files {
		if read, err := os.Stat(f.path); err == nil && os.SameFile(info, read) {
			return ""
		}
	}
	old, err := readEnvironmentFile(path)
	if err != nil {
		return "" // it cannot have been meant
	}
	var names []string
	line := 0
	for _, a := range old.assignments {
		now, ok := files.lookup(a.name)
		if v.has(a.name) && !slices.Contains(names, a.name) && !(ok && now.value == a.value) {
			if names = append(names, a.name); line == 0 {
				line = a.line
			}
		}
	}
	if len(names) == 0 {
		return ""
	}
	return fmt.Sprintf("%s:%d: this file is not read, and does not set %s: write it into %s", path, line, strings.Join(names, ", "), files[0].path)
}

// lookalike returns a warning if a variable of a program's environment looks like a setting but is not, or "".
func (v vocabulary) lookalike(f *fragments, name string) string {
	program, place := f.program, f.environ[name].origin.place()
	ours := strings.HasPrefix(name, "LOCKSMITHD_") || strings.HasPrefix(name, "LOCKSMITHCTL_")
	if !ours && !strings.HasPrefix(name, "LOCKSMITH_") && !strings.HasPrefix(name, "REBOOT_") {
		return ""
	}
	meant := ""
	if !v.has(name) {
		meant = v.intended(name)
	}
	for _, d := range definitions {
		switch right := d.inEnvironment(program, d.Variable); {
		case name == right, slices.Contains([]string{d.Prefixed, d.Fallback}, name):
			if glued := v.in(f.environ[name].value, "="); len(glued) > 0 {
				return fmt.Sprintf("%s (%s): %s has become part of its value: write one assignment in each pair of quotes", name, place, strings.Join(glued, ", "))
			}
			return ""
		case name == d.Variable, name == d.CLIVariable(), meant == d.Variable && meant != "":
			meant = right
		}
	}
	_, set := f.environ[meant]
	switch {
	case set: // an environment for both programs
		return ""
	case meant != "":
		return fmt.Sprintf("%s (%s): %s does not read it, did you mean %s?", shorten(name, maxName), place, program, meant)
	case ours:
		return fmt.Sprintf("%s (%s): %s does not read it", shorten(name, maxName), place, program)
	}
	return ""
}

func clip(text string) string { return text[:min(len(text), maxText)] }

// normal returns text with names spelled as variables are.
func normal(text string) string {
	return strings.ToUpper(strings.ReplaceAll(text, "-", "_"))
}

// yamlKey returns the key of a line such as "reboot-strategy: off", spelled as variables are, or "".
func yamlKey(line string) string {
	key, rest, ok := strings.Cut(line, ":")
	if !ok || rest != "" && !strings.ContainsAny(rest[:1], " \t\"'") {
		return ""
	}
	key = normal(strings.Trim(strings.TrimSpace(strings.TrimPrefix(key, "-")), `"'`))
	if !systemd.VariableName(key) {
		return ""
	}
	return key
}
