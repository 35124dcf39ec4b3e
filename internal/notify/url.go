package notify

import (
	"encoding/base64"
	"errors"
	"net/url"
	"slices"
	"strings"
	"unicode"

	"github.com/locksmithd/locksmith/internal/safetext"
)

// URL is where events are sent, "" for nowhere. Its user, path and query may be secrets: only scheme and host are
// shown, also by package fmt.
type URL string

// Validate says what is wrong with the URL, without showing it.
func (u URL) Validate() error {
	parsed, err := url.Parse(string(u))
	switch {
	case err != nil, parsed.Scheme != "http" && parsed.Scheme != "https", parsed.Hostname() == "", parsed.Opaque != "":
		return errors.New("it is not the URL of a web hook: write http:// or https://, the host, and what follows it, such as https://hooks.example/services/KEY")
	case parsed.Fragment != "":
		return errors.New("it has a fragment, which is never sent: leave out what begins with #")
	case strings.ContainsFunc(string(u), func(r rune) bool { return r == ' ' || !unicode.IsPrint(r) }):
		return errors.New("it has blanks or other characters that do not belong into a URL: write them as %20 and the like")
	}
	return nil
}

// String returns the URL as it may be shown.
func (u URL) String() string {
	parsed, err := url.Parse(string(u))
	switch {
	case u == "":
		return ""
	case err != nil || parsed.Host == "" || parsed.Scheme != "http" && parsed.Scheme != "https":
		return safetext.Hidden
	}
	shown := parsed.Scheme + "://" + parsed.Host
	if u.Secret() {
		shown += "/" + safetext.Hidden
	}
	return shown
}

// GoString is String, for %#v.
func (u URL) GoString() string { return u.String() }

// Secret reports whether the URL has more than scheme and host.
func (u URL) Secret() bool {
	parsed, err := url.Parse(string(u))
	return u != "" && (err != nil || parsed.User != nil || strings.Trim(parsed.Path, "/") != "" || parsed.RawQuery != "")
}

// Exposed reports whether others on the way to the server can read what is sent.
func (u URL) Exposed() bool {
	parsed, err := url.Parse(string(u))
	if err != nil || parsed.Scheme != "http" {
		return false
	}
	host := parsed.Hostname()
	return host != "localhost" && host != "::1" && !strings.HasPrefix(host, "127.")
}

// conceal takes the secrets of the URL out of a text, which may be the answer of a server.
func (u URL) conceal(text string) string {
	parsed, err := url.Parse(string(u))
	if err != nil {
		return safetext.Hidden
	}
	secrets := []string{string(u), parsed.RawQuery}
	if parsed.User != nil {
		password, _ := parsed.User.Password()
		sent := base64.StdEncoding.EncodeToString([]byte(parsed.User.Username() + ":" + password)) // in the header
		secrets = append(secrets, parsed.User.String(), password, sent, strings.TrimRight(sent, "="))
	}
	for _, path := range []string{parsed.EscapedPath(), parsed.Path} {
		secrets = append(secrets, path)
		secrets = slices.AppendSeq(secrets, strings.SplitSeq(path, "/"))
	}
	for pair := range strings.SplitSeq(parsed.RawQuery, "&") {
		_, value, _ := strings.Cut(pair, "=")
		secrets = append(secrets, value)
	}
	for _, values := range parsed.Query() {
		secrets = append(secrets, values...)
	}
	return safetext.Hide(text, secrets...)
}
