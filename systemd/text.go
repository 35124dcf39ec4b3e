package systemd

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxText bounds, in bytes, how much of a text that somebody else chose is shown.
const maxText = 256

// clean returns s, cut where it is long, with every character escaped that a
// terminal might act upon or that could not be seen.
func clean(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		if b.Len() >= maxText {
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
