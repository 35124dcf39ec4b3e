package fleetlock_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"unicode"

	"github.com/locksmithd/locksmith/fleetlock"
)

// FuzzAnswer checks that no answer makes the client panic, that only a whole 200 grants, and that an error is one line
// of bounded length that says whether the request may have been carried out.
func FuzzAnswer(f *testing.F) {
	for _, body := range []string{
		"", "{}", "granted", `{"kind":"success","value":"done"}`, `{"kind":"lock_held","value":"no slot\nis \u001bfree"}`,
		"<html>", "\x00", "\xff\xfe", `{"kind":7}`,
	} {
		for _, code := range []int{200, 202, 307, 423, 500} {
			f.Add(code, "text/plain", []byte(body), false)
			f.Add(code, "text/html; charset=utf-8", []byte(body), true)
		}
	}
	f.Fuzz(func(t *testing.T, code int, contentType string, body []byte, lost bool) {
		var incomplete error
		if lost {
			incomplete = io.ErrUnexpectedEOF
		}
		err := fleetlock.Outcome("http://h/v1/pre-reboot", code, http.Header{"Content-Type": {contentType}, "Location": {string(body)}}, body, incomplete)
		if err == nil {
			if code != 200 || lost || len(body) > 64<<10 || strings.HasPrefix(string(body), "<") {
				t.Fatalf("%d with %q is granted", code, body)
			}
			return
		}
		if refused := code >= 400 && code <= 499 && code != 408 && code != 429; errors.Is(err, fleetlock.ErrUnknown) == refused {
			t.Fatalf("%d with %q is unknown: %v", code, body, !refused)
		}
		text := err.Error()
		var e *fleetlock.Error
		if errors.As(err, &e) {
			text += e.Kind + e.Value
			if e.Kind == "" || e.Value == "" || e.Status != code || errors.Is(e, fleetlock.ErrUnknown) != errors.Is(err, fleetlock.ErrUnknown) {
				t.Fatalf("%d with %q is the error %+v", code, body, e)
			}
		}
		if len(text) > 8<<10 || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Fatalf("%d with %q says %q", code, body, text)
		}
	})
}
