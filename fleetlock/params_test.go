package fleetlock_test

import (
	"regexp"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/locksmithd/locksmith/fleetlock"
)

func TestEncodedParamsAreDecodedAgain(t *testing.T) {
	t.Parallel()
	for _, p := range []fleetlock.Params{
		{ID: "a", Group: "b"},
		{ID: `quotes " \ <html> & more`, Group: "A.b-3"},
		{ID: "Übergrößenträger-日本", Group: ".."},
		{ID: strings.Repeat("ä", 128), Group: strings.Repeat("g", 256)},
	} {
		if got, err := fleetlock.Decode(p.Encode()); got != p || err != nil {
			t.Errorf("%+v becomes %+v, %v", p, got, err)
		}
	}
	if got, want := string(web1.Encode()), `{"client_params":{"id":"web-1","group":"workers"}}`; got != want {
		t.Errorf("the body is %s, want %s", got, want)
	}
}

// What Decode refuses is in the table of requests; these can only come from a program.
func TestCheckRefusesWhatJSONCannotCarry(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]string{
		"web\xff":                "client_params.id has the character U+FFFD: only printable characters are allowed",
		strings.Repeat("ä", 129): "client_params.id has 258 bytes: at most 256 are allowed",
	} {
		if err := (fleetlock.Params{ID: id, Group: "workers"}).Check(); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", id, err, want)
		}
	}
}

// FuzzDecode checks that no body makes Decode panic, that what it accepts is allowed and means the same when it is
// encoded, and that its errors are one line.
func FuzzDecode(f *testing.F) {
	for _, body := range []string{
		`{"client_params":{"id":"web-1","group":"workers"}}`, `{"client_params":{"group":"a","id":"b","id":"c"},"x":[{}]}`,
		`{"client_params":null}`, `{"client_params":{"id":"\ud800\u0000","group":7}}`, `[]`, ``, `{}{}`, "\xef\xbb\xbf{}", "{\"a\":\"\xff\"}", strings.Repeat("[", 100),
	} {
		f.Add([]byte(body))
	}
	group := regexp.MustCompile(`\A[a-zA-Z0-9.-]{1,256}\z`)
	f.Fuzz(func(t *testing.T, body []byte) {
		p, err := fleetlock.Decode(body)
		if err != nil {
			if p != (fleetlock.Params{}) || err.Error() == "" || strings.ContainsFunc(err.Error(), func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Fatalf("%q is refused with %+v and %q", body, p, err)
			}
			return
		}
		if p.ID == "" || len(p.ID) > 256 || !utf8.ValidString(p.ID) || !group.MatchString(p.Group) ||
			strings.ContainsFunc(p.ID, func(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError }) {
			t.Fatalf("%q is accepted as %+v", body, p)
		}
		if again, err := fleetlock.Decode(p.Encode()); again != p || err != nil {
			t.Fatalf("%+v becomes %+v, %v", p, again, err)
		}
	})
}
