package config

import (
	"slices"
	"strings"

	"github.com/locksmithd/locksmith/systemd"
)

// word is a variable of update.conf.
type word struct {
	name  string
	ours  bool   // it has our prefix
	rest  string // what follows the prefix
	again bool   // with the prefix of a variable that has none
}

// vocabulary are the variables of update.conf, longer ones before those that they end with.
type vocabulary []word

func newVocabulary() vocabulary {
	var v vocabulary
	for _, d := range definitions {
		for _, name := range d.variables() {
			ours, rest := cutPrefix(name)
			v = append(v, word{name, ours, rest, name == d.Prefixed})
		}
	}
	slices.SortStableFunc(v, func(a, b word) int { return len(b.name) - len(a.name) })
	return v
}

func (v vocabulary) has(name string) bool {
	return slices.ContainsFunc(v, func(w word) bool { return w.name == name })
}

// in returns the variables in a text that end a word, with end behind them, each once and in order.
func (v vocabulary) in(text, end string) []string {
	var names []string
	for rest := clip(text); ; {
		_, name, after := v.cut(rest, end)
		if name == "" {
			return names
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
		rest = after
	}
}

// glued returns a variable that is set directly behind another word, or "".
func (v vocabulary) glued(text string) string {
	for rest := clip(text); ; {
		before, name, after := v.cut(rest, "=")
		if name == "" || before != "" && systemd.VariableName("_"+before[len(before)-1:]) {
			return name
		}
		rest = after
	}
}

// cut returns the first variable in a text that ends a word, with end behind it, and what is before and after the
// variable. The name is empty if there is none.
func (v vocabulary) cut(text, end string) (before, name, after string) {
	at := len(text)
	for _, w := range v {
		for from := 0; ; {
			i := strings.Index(text[from:], w.name+end)
			if i < 0 {
				break
			}
			i += from
			from = i + len(w.name)
			if end == "" && from < len(text) && systemd.VariableName("_"+text[from:from+1]) {
				continue // a longer word
			}
			if i < at { // if a name ends with another one, the longer one begins first
				at, name = i, w.name
			}
			break
		}
	}
	return text[:at], name, text[at+len(name):]
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
	v = slices.DeleteFunc(slices.Clone(v), func(w word) bool { return w.again })
	similar := []func(word) bool{
		func(w word) bool { return one == strings.TrimSuffix(w.rest, "S") },
		func(w word) bool { return strings.HasSuffix(name, w.name) }, // behind another word
		func(w word) bool { return strings.HasSuffix(one, "_"+strings.TrimSuffix(w.rest, "S")) },
		func(w word) bool { return strings.HasSuffix(w.rest, "_"+rest) && 3*len(rest) > len(w.rest) },
	}
	for i, is := range similar {
		var found word
		for _, w := range v {
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
	for _, w := range v {
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
