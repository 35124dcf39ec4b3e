// Package safetext makes text that somebody else chose safe to show: what any client of
// etcd, any program on the bus or any user of the host may have written.
//
// It guarantees that the result has only characters that unicode.IsPrint holds for, so that
// no terminal acts upon it, and that it is about as long as asked for. It does not guarantee
// that two texts stay different, nor how wide they are.
package safetext

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Clean is Cut for a text of which 256 bytes are enough to know it by.
func Clean(s string) string { return Cut(s, 256) }

// Cut returns s with every other character escaped as in Go, and cut with "..." where it gets
// longer than most, in bytes.
func Cut(s string, most int) string {
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
