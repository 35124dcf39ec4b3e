package page

import (
	"cmp"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"html/template"
	"io"
	"log/slog"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/locksmithd/locksmith/fleetlock"
	"github.com/locksmithd/locksmith/internal/fleet"
	"github.com/locksmithd/locksmith/internal/grant"
	"github.com/locksmithd/locksmith/internal/origin"
	"github.com/locksmithd/locksmith/internal/safetext"
	"github.com/locksmithd/locksmith/internal/sparse"
	"github.com/locksmithd/locksmith/internal/view"
)

//go:embed assets
var files embed.FS

// Options say what a [Handler] works with.
type Options struct {
	Fleet *fleet.Cache
	// Groups returns the groups that are served, by the names that clients give. It is called concurrently.
	Groups func() map[string]grant.Group
	// Check reports for each of several users whether the password is right, see [grant.Visible].
	Check func(ctx context.Context, address, user, password string, of []grant.Users) ([]bool, error)
	// Plan returns the plan of a group at a time; nil: neither the page nor the API has plans.
	Plan func(g fleet.Group, now time.Time) Plan
	// Zone returns the time zone in which the page shows times.
	Zone func() *time.Location
	Log  *slog.Logger
	// Next gets what is not for the page or its API.
	Next http.Handler
}

// Handler answers requests for the page and its API.
type Handler struct {
	Options
	plans    plans
	turns    chan struct{} // holds a token for each answer that is being made
	unread   unread
	rejected sparse.Lines
	failed   sparse.Lines
}

var _ http.Handler = (*Handler)(nil)

// New returns a handler.
func New(o Options) *Handler {
	return &Handler{Options: o, turns: make(chan struct{}, atOnce), unread: unread{most: maxUnread, mostOfOne: maxUnreadOfOne}}
}

// policy is the Content-Security-Policy: what is shown can neither run nor load anything but the page's own files.
const policy = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// failure is the answer to a request that cannot be carried out.
type failure struct {
	code  int
	kind  string // a word, as in the answers of FleetLock
	value string // a sentence
}

func (f *failure) Error() string { return f.value }

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	api := r.URL.Path == "/api" || strings.HasPrefix(r.URL.Path, "/api/")
	if !api && r.URL.Path != "/" && r.URL.Path != "/sign-in" && !strings.HasPrefix(r.URL.Path, "/assets/") {
		h.Next.ServeHTTP(w, r)
		return
	}
	for name, value := range map[string]string{
		"Content-Security-Policy":      policy,
		"X-Content-Type-Options":       "nosniff",
		"X-Frame-Options":              "DENY",
		"Referrer-Policy":              "no-referrer",
		"Cross-Origin-Resource-Policy": "same-origin",
		"Cross-Origin-Opener-Policy":   "same-origin",
		"Cache-Control":                "no-store",
	} {
		w.Header().Set(name, value)
	}
	err := h.serve(w, r)
	if err == nil || r.Context().Err() != nil {
		return
	}
	f, ok := errors.AsType[*failure](err)
	if !ok {
		if h.failed.Allow(r.URL.Path) {
			h.Log.Error("a request for the page has failed", "path", safetext.Clean(r.URL.Path), "error", err)
		}
		f = &failure{http.StatusInternalServerError, fleetlock.KindInternalError, "the server failed; its log says why"}
	}
	switch f.code {
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", `Basic realm="locksmith", charset="UTF-8"`)
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", "5")
	}
	if api {
		text, _ := view.JSON.Marshal(map[string]string{"kind": f.kind, "value": f.value}) // it is only text
		answer(w, f.code, "application/json", text)
		return
	}
	var text strings.Builder
	if err := pages.ExecuteTemplate(&text, "error", map[string]any{"Asset": asset, "Title": http.StatusText(f.code), "Text": f.value}); err != nil {
		h.Log.Error("the page of an error cannot be written", "error", err)
	}
	answer(w, f.code, "text/html; charset=utf-8", text.String())
}

// serve answers a request for the page or its API.
func (h *Handler) serve(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		return &failure{http.StatusMethodNotAllowed, fleetlock.KindMethodNotAllowed, "the page and its API only show the fleet: the method has to be GET"}
	}
	if name, ok := strings.CutPrefix(r.URL.Path, "/assets/"); ok {
		return serveAsset(w, r, name)
	}
	if r.URL.Path == openapiPath {
		return serveAsset(w, r, "openapi.json")
	}
	seen, err := h.admit(r)
	if err != nil {
		return err
	}
	switch {
	case r.URL.Path == "/sign-in":
		if seen.locked > 0 && seen.user == "" {
			return unauthorized("these groups need a user and a password")
		}
		http.Redirect(w, r, "./", http.StatusSeeOther)
		return nil
	case r.URL.Path == "/":
		return h.servePage(w, r, seen)
	}
	return h.serveAPI(w, r, seen)
}

// contentTypes are those of the files of the page.
var contentTypes = map[string]string{
	".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml", ".json": "application/json",
}

// serveAsset answers with a file of the page, which says nothing about the fleet.
func serveAsset(w http.ResponseWriter, r *http.Request, name string) error {
	data, err := files.ReadFile("assets/" + name)
	kind := contentTypes[path.Ext(name)]
	if err != nil || kind == "" {
		return &failure{http.StatusNotFound, fleetlock.KindNotFound, "the page has no such file"}
	}
	if r.URL.RawQuery != "" && r.URL.RawQuery == sums[name] {
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	answer(w, http.StatusOK, kind, string(data))
	return nil
}

// sums has a sum of each file, with which its address changes when it does.
var sums = func() map[string]string {
	all := map[string]string{}
	for _, name := range []string{"style.css", "live.js", "icon.svg"} {
		data, err := files.ReadFile("assets/" + name)
		if err != nil {
			panic(err) // it is part of the program
		}
		sum := sha256.Sum256(data)
		all[name] = hex.EncodeToString(sum[:6])
	}
	return all
}()

// asset returns the address of a file, relative to the page.
func asset(name string) template.URL { return template.URL("assets/" + name + "?" + sums[name]) }

// answer writes an answer. That the client has gone is no news.
func answer(w http.ResponseWriter, code int, contentType, text string) {
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(code)
	_, _ = io.WriteString(w, text) // which does not copy it
}

// send answers with what text returns and with headers of its own, unless clients leave too much of such answers unread.
func (h *Handler) send(w http.ResponseWriter, r *http.Request, contentType string, headers map[string]string, text func() (string, error)) error {
	select {
	case h.turns <- struct{}{}:
	case <-r.Context().Done():
		return r.Context().Err()
	}
	from := origin.Of(r.RemoteAddr)
	made, sent, err := func() (string, bool, error) {
		defer func() { <-h.turns }()
		made, err := text()
		return made, err == nil && h.unread.add(from, len(made)), err
	}()
	switch {
	case err != nil:
		return err
	case !sent:
		return &failure{http.StatusServiceUnavailable, fleetlock.KindUnavailable, "as many long answers are under way as there may be: read them to their ends, and ask again"}
	}
	defer h.unread.remove(from, len(made))
	for name, value := range headers { // only now: an answer that is refused must not have them
		w.Header().Set(name, value)
	}
	answer(w, http.StatusOK, contentType, made)
	return nil
}

func unauthorized(value string) *failure {
	return &failure{http.StatusUnauthorized, fleetlock.KindUnauthorized, value}
}

// reject returns a failure that somebody else has caused, and logs it.
func (h *Handler) reject(r *http.Request, f *failure) *failure {
	c := grant.CredentialsOf(r)
	if h.rejected.Allow(origin.Of(r.RemoteAddr) + " " + c.User) {
		h.Log.Warn("a request for the page was rejected", "address", c.Address, "user", cmp.Or(safetext.Clean(c.User), "none"), "reason", f.value)
	}
	return f
}
