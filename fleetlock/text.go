package fleetlock

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// printable returns a text of somebody else as one line that is safe to show, cut if it has more than
// most bytes.
func printable(text string, most int) string {
	if len(text) > most {
		text = text[:most] + "..."
	}
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsPrint(r):
			return r
		case unicode.IsSpace(r):
			return ' '
		default:
			return utf8.RuneError
		}
	}, strings.TrimSpace(text))
}
