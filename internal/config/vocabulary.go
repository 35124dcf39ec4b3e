package config

import (
	"regexp"
	"slices"
	"strings"
)

// word is a variable of update.conf.
type word struct {
	name string
	ours bool   // it has our prefix
	rest string // what follows the prefix
}

// vocabulary are the variables of update.conf.
type vocabulary struct {
	words []word
	// mention and assignment find a variable at the end of a word, and one with "=" behind it: first what is glued
	// to its front, if anything, then its name.
	mention, assignment *regexp.Regexp
}

func newVocabulary() (v vocabulary) {
	for _, d := range definitions {
		for _, name := range d.variables() {
			ours, rest := cutPrefix(name)
			v.words = append(v.words, word{name, ours, rest})
		}
	}
	// Longer ones before those that they end with.
	slices.SortStableFunc(v.words, func(a, b word) int { return len(b.name) - len(a.name) })
	var names []string
	for _, w := range v.words {
		names = append(names, w.name)
	}
	pattern := `(\w?)(` + strings.Join(names, "|") + `)`
	v.mention, v.assignment = regexp.MustCompile(pattern+`\b`), regexp.MustCompile(pattern+`=`)
	return v
}

func (v vocabulary) has(name string) bool {
	return slices.ContainsFunc(v.words, func(w word) bool { return w.name == name })
}

// variables returns the variables that are found in a text, each once and in order.
func variables(find *regexp.Regexp, text string) []string {
	var names []string
	for _, found := range find.FindAllStringSubmatch(clip(text), -1) {
		if name := found[2]; !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// glued returns a variable that is set directly behind another word, or "".
func (v vocabulary) glued(text string) string {
	for _, found := range v.assignment.FindAllStringSubmatch(clip(text), -1) {
		if found[1] != "" {
			return found[2]
		}
	}
	return ""
}

// intended returns the variable that a wrong name probably means, or "". Other versions and configuration formats
// have names such as LOCKSMITH_STRATEGY, etcd_endpoints or window_start. What follows the prefix is compared, in any
// case and relative to its length. A name without our prefix belongs to another program, unless it resembles a
// name such as REBOOT_STRATEGY.
func (v vocabulary) intended(name string) string {
	if len(name) > 2*maxName {
		return "" // no variable is nearly as long
	}
	name = strings.ToUpper(name)
	ours, rest := cutPrefix(name)
	prefixed := ours || strings.HasPrefix(rest, "REBOOT_")
	one := strings.TrimSuffix(rest, "S")
	similar := []func(word) bool{
		func(w word) bool { return one == strings.TrimSuffix(w.rest, "S") },
		func(w word) bool { return strings.HasSuffix(name, w.name) }, // behind another word
		func(w word) bool { return strings.HasSuffix(one, "_"+strings.TrimSuffix(w.rest, "S")) },
		func(w word) bool { return strings.HasSuffix(w.rest, "_"+rest) && 3*len(rest) >= len(w.rest) },
	}
	for i, is := range similar {
		var found word
		for _, w := range v.words {
			// Where only the end of a variable is written, the shortest one resembles it most.
			if (prefixed || !w.ours || i == 1) && is(w) && (found.name == "" || i == 3 && len(w.rest) < len(found.rest)) {
				found = w
			}
		}
		if found.name != "" {
			return found.name
		}
	}
	best, bestDistance := "", 5
	for _, w := range v.words {
		if prefixed || !w.ours {
			d := editDistance(rest, w.rest)
			nearer := d < bestDistance || d == bestDistance && w.ours == ours
			if nearer && 5*d <= 2*max(len(rest), len(w.rest)) {
				best, bestDistance = w.name, d
			}
		}
	}
	return best
}

// cutPrefix returns a name without a prefix such as LOCKSMITHD_, and whether it had one, even if misspelt.
func cutPrefix(name string) (prefixed bool, rest string) {
	prefix, rest, ok := strings.Cut(name, "_")
	for _, p := range []string{"LOCKSMITHD", "LOCKSMITHCTL", "LOCKSMITH"} {
		if ok && len(prefix) <= 2*len(p) && editDistance(prefix, p) <= 2 {
			return true, rest
		}
	}
	return false, name
}

// editDistance returns how many insertions, deletions and changes of a byte turn a into b.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
