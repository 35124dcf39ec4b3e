package safetext

import (
	"strings"
	"testing"
	"unicode"
)

func TestCutLeavesNothingThatATerminalActsUpon(t *testing.T) {
	for _, test := range []struct {
		s    string
		most int
		want string
	}{
		{"", 10, ""},
		{"web-1 läuft", 100, "web-1 läuft"},
		{"a\x1b[31mb\n", 100, `a\x1b[31mb\n`},
		{"\u009b2J\u202eevil", 100, `\u009b2J\u202eevil`},
		{"\xff\xfe\ufffd'", 100, `\xff\xfe` + "\ufffd'"},
		{"0123456789", 10, "0123456789"},
		{"0123456789a", 10, "0123456789..."},
		{"\x00\x00\x00", 5, `\x00\x00...`},
	} {
		if got := Cut(test.s, test.most); got != test.want {
			t.Errorf("%q becomes %q, want %q", test.s, got, test.want)
		}
	}
	if got := Clean(strings.Repeat("a", 300)); got != strings.Repeat("a", 256)+"..." {
		t.Errorf("300 characters become %q", got)
	}
}

func FuzzCut(f *testing.F) {
	f.Add("a\x1b\xff\u202e")
	f.Fuzz(func(t *testing.T, s string) {
		if got := Cut(s, 64); strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }) || len(got) > 64+13 {
			t.Errorf("%q becomes %q", s, got)
		}
	})
}
