// Package safetext makes a text safe to show that others chose: any client of etcd, any program on the bus
// or any user of the host may have written it.
//
// It guarantees that the result has only characters for which unicode.IsPrint holds, so that no terminal acts
// upon it, and that it is hardly longer than the limit. It does not guarantee that two texts stay different,
// nor how wide they are.
//
// It also takes secrets out of what is shown of a text.
package safetext

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Clean is Cut with a limit of 256 bytes, enough to recognize a text.
func Clean(s string) string { return Cut(s, 256) }

// Cut returns s with every unprintable character escaped as in Go. A result longer than most bytes is cut, and
// ends in "...".
func Cut(s string, most int) string {
	if len(s) <= most && isPlain(s) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		if b.Len() >= most {
			b.WriteString("...")
			break
		}
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
		s = s[size:]
	}
	return b.String()
}

// isPlain reports whether a text has printable ASCII characters alone, as nearly every text.
func isPlain(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// Hidden is shown instead of a secret.
const Hidden = "(hidden)"

// minSecret is the length in bytes from which a secret is hidden. Shorter ones are no secrets worth the name, and would
// take letters out of every word.
const minSecret = 4

// Hide takes secrets out of what is shown of a text. It is for texts that are not cut yet: what is left of a secret is not
// recognized.
func Hide(text string, secrets ...string) string {
	secrets = slices.Clone(secrets)
	// The longest first: one secret may be part of another.
	slices.SortFunc(secrets, func(a, b string) int { return len(b) - len(a) })
	for _, secret := range secrets {
		if len(secret) >= minSecret {
			text = strings.ReplaceAll(text, secret, Hidden)
		}
	}
	return text
}

// maxListed is the number of texts in a list.
const maxListed = 5

// List joins texts for a sentence: the first few, and the number of the others.
func List(texts []string) string {
	if more := len(texts) - maxListed; more > 0 {
		texts = append(slices.Clone(texts[:maxListed]), fmt.Sprintf("and %d more", more))
	}
	return strings.Join(texts, ", ")
}
