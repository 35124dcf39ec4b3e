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

func TestHideTakesSecretsOut(t *testing.T) {
	secrets := []string{"abc", "", "abcd", "abcdef", "x(y"}
	for text, want := range map[string]string{
		"":                        "",
		"abc x(y":                 "abc x(y",
		"an abcdef, abcdabcd abc": "an (hidden), (hidden)(hidden) abc",
	} {
		if got := Hide(text, secrets...); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
	if secrets[0] != "abc" {
		t.Errorf("Hide changed its arguments: %q", secrets)
	}
	if got := Hide("abcd"); got != "abcd" {
		t.Errorf("without a secret: %q", got)
	}
}

func TestListNamesTheFirstFew(t *testing.T) {
	texts := []string{"a", "b", "c", "d", "e", "f", "g"}
	for n, want := range map[int]string{0: "", 1: "a", 2: "a, b", 5: "a, b, c, d, e", 6: "a, b, c, d, e, and 1 more", 7: "a, b, c, d, e, and 2 more"} {
		if got := List(texts[:n]); got != want {
			t.Errorf("%d texts: %q, want %q", n, got, want)
		}
	}
	if texts[5] != "f" {
		t.Errorf("List changed its argument: %q", texts)
	}
}
