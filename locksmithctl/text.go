package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// printable returns s with every character escaped that a terminal might act
// upon or that could not be seen: ids come out of a document that any client of
// etcd can write.
func printable(s string) string { return cut(s, math.MaxInt) }

// cut is printable of s, and ends where it gets longer than most, in bytes.
func cut(s string, most int) string {
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

// How much of what others have written is shown, in bytes. The longest id that a
// slot can be taken for has 256.
const (
	maxID   = 256
	maxName = 64
)

// age formats how long ago something was: "42s", "12m", "3h05m", "4d03h". Clocks of two
// hosts may differ; what lies ahead by this one's is "0s".
func age(d time.Duration) string {
	d = max(0, d)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd%02dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
}

// count writes a number of things, each of which is a one.
func count(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}
