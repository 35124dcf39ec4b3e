package main

import (
	"fmt"
	"strings"
	"time"
)

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

// word quotes what is not plain for a POSIX shell: a command that is suggested is copied.
func word(s string) string {
	const plain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._/-"
	if strings.Trim(s, plain) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
