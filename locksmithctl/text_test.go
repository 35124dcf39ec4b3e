package main

import (
	"testing"
)

func TestSuggestedCommandsAreQuoted(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "lb-1.example/x_y": `lb-1.example/x_y`, "prod db": `'prod db'`, "$(reboot)": `'$(reboot)'`, "it's": `'it'\''s'`, "a;b": `'a;b'`,
	} {
		if got := shellWord(text); got != want {
			t.Errorf("%q is written %s, want %s", text, got, want)
		}
	}
}
