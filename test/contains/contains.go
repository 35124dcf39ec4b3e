// Package contains tells tests whether a text contains all of several parts.
package contains

import "strings"

// All reports whether text contains every part.
func All(text string, parts ...string) bool {
	for _, p := range parts {
		if !strings.Contains(text, p) {
			return false
		}
	}
	return true
}

// Lines counts the lines of text that contain every part.
func Lines(text string, parts ...string) int {
	n := 0
	for line := range strings.Lines(text) {
		if All(line, parts...) {
			n++
		}
	}
	return n
}
