package fleetlock

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"path"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// maxBody is the length in bytes that the body of a request or of an answer may have.
const maxBody = 64 << 10

const (
	// headerTime and bodyTime are how long the headers, and the body, of a request may take to arrive.
	headerTime = 10 * time.Second
	bodyTime   = 10 * time.Second
)

// Server decides who gets a slot. Its methods are called concurrently.
//
// A nil error is answered with 200, and an [*Error], also a wrapped one, as it says. Any other error is logged and
// answered with [KindInternalError], without its text.
//
// The context ends when the client has gone away, or has closed its side of the connection. A method that then returns
// the context's error ends the connection without an answer. A method that grants a slot to a client that has gone away
// leaves the slot with a host that does not know of it, until the host asks again.
type Server interface {
	// PreReboot takes a slot for a host. It returns nil only when the host has one, and then also if it had one before.
	PreReboot(ctx context.Context, caller Caller, params Params) error
	// SteadyState gives the slot of a host back. It returns nil when the host has none, and then also if it had none
	// before.
	SteadyState(ctx context.Context, caller Caller, params Params) error
}

// Caller is who sent a request. Nothing of it is checked, except TLS as far as the http.Server does so.
type Caller struct {
	Address        string               // host:port of the other end of the connection, which may be a proxy
	User, Password string               // of HTTP basic authentication; empty if there is none
	TLS            *tls.ConnectionState // nil without TLS
}

// Handler answers the requests of clients. It has to get them directly from an http.Server, such as [NewHTTPServer]
// returns, because an http.ServeMux redirects a path with two slashes, and clients do not follow.
type Handler struct {
	Server Server
	// Prefix is the path before /v1, such as "/reboots"; empty if there is none.
	Prefix string
	// Log gets the errors whose text clients do not get. If it is nil, package log gets them.
	Log func(error)
	// Answered, if it is not nil, is called with what came of each request: what it asked for, [PreReboot] or
	// [SteadyState], or "" for something else; the group that it names, "" if it was not understood; and the kind of the
	// answer, "" for success, [KindGone] if nobody reads it. It is called concurrently, and must not block.
	Answered func(operation, group, kind string)

	bodyTime time.Duration // in tests; 0 means the constant
}

// What a request asks for, as its path ends.
const (
	PreReboot   = "pre-reboot"
	SteadyState = "steady-state"
)

// KindGone stands for the kind of an answer that was not given, because the client has gone away.
const KindGone = "gone"

// asked is what a request asks for, as far as it is understood.
type asked struct{ operation, group string }

// answered tells what came of a request.
func (h *Handler) answered(a asked, kind string) {
	if h.Answered != nil {
		h.Answered(a.operation, a.group, kind)
	}
}

// NewHTTPServer returns a server that bounds what a client can take of it: ten seconds and 16 KiB for the headers, ten
// seconds more for a body, whoever reads it, and a minute for an idle connection. The handler bounds the length of the
// body.
//
// It has no WriteTimeout, which would lose the answer of a [Server] that lets the client wait. It does not bound the
// number of connections.
func NewHTTPServer(handler http.Handler) *http.Server {
	return &http.Server{
		Handler:                      handler,
		ReadHeaderTimeout:            headerTime,
		ReadTimeout:                  headerTime + bodyTime, // of the request: it does not end a wait for the answer
		IdleTimeout:                  time.Minute,
		MaxHeaderBytes:               16 << 10,
		DisableGeneralOptionsHandler: true, // it answers 200
	}
}

// ServeHTTP answers a request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength != 0 {
		// The deadline is set also where nobody here reads the body: net/http reads what is left of it, to use the
		// connection again. (Without a body it reads already, and a deadline would look as if the client had gone
		// away.) A writer that has no deadlines is that of a test, or one that somebody has wrapped.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(h.bodyWithin()))
	}
	var a asked
	err := h.carryOut(w, r, &a)
	if err == nil {
		h.answered(a, "")
		// An object, because some clients expect JSON in every answer.
		answer(w, http.StatusOK, struct{}{})
		return
	}
	if cause := r.Context().Err(); cause != nil && errors.Is(err, cause) {
		h.answered(a, KindGone)
		panic(http.ErrAbortHandler)
	}
	var e *Error
	if !errors.As(err, &e) || e.code() < 400 || e.code() > 599 {
		h.log(fmt.Errorf("%s %q from %s: %w", r.Method, r.URL.Path, r.RemoteAddr, err))
		e = &Error{Kind: KindInternalError, Value: "the server failed; its log says why"}
	}
	if e.code() == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Basic realm="FleetLock"`)
	}
	// The protocol wants both members to be there.
	d := document{printable(e.Kind, maxKind), printable(e.Value, maxValue)}
	if d.Kind == "" {
		d.Kind = KindInternalError
	}
	if d.Value == "" {
		d.Value = http.StatusText(e.code())
	}
	h.answered(a, d.Kind)
	answer(w, e.code(), d)
}

// carryOut has the server do what a request asks for, and notes that.
func (h *Handler) carryOut(w http.ResponseWriter, r *http.Request, a *asked) error {
	do, found := h.operation(r.URL.Path)
	if found {
		a.operation = path.Base(r.URL.Path)
	}
	switch {
	case !found:
		prefix := h.prefix()
		return &Error{Kind: KindNotFound, Value: fmt.Sprintf("there are only %s/v1/pre-reboot and %s/v1/steady-state", prefix, prefix)}
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		return &Error{Kind: KindMethodNotAllowed, Value: "the method has to be POST"}
	case !slices.Equal(r.Header.Values("fleet-lock-protocol"), []string{"true"}):
		return &Error{Kind: KindMissingHeader, Value: "the header fleet-lock-protocol: true is missing, or has another value"}
	case r.Header["Origin"] != nil:
		// Only browsers send it, and with every POST. A page whose own host name was made to lead to this server could send
		// the header above.
		return &Error{Kind: KindForbidden, Value: "a page in a browser may not ask: the request has the header Origin"}
	}
	body, err := h.body(w, r)
	if err != nil {
		return err
	}
	params, err := Decode(body)
	if err != nil {
		return &Error{Kind: KindBadRequest, Value: err.Error()}
	}
	a.group = params.Group
	caller := Caller{Address: r.RemoteAddr, TLS: r.TLS}
	caller.User, caller.Password, _ = r.BasicAuth()
	return withoutPanic(func() error { return do(r.Context(), caller, params) })
}

// operation returns the method of the server that the path of a request is for.
func (h *Handler) operation(at string) (do func(context.Context, Caller, Params) error, found bool) {
	// A base URL with a slash at its end, and a path with one at its start, make two.
	for strings.Contains(at, "//") {
		at = strings.ReplaceAll(at, "//", "/")
	}
	switch at {
	case h.prefix() + "/v1/" + PreReboot:
		return h.Server.PreReboot, true
	case h.prefix() + "/v1/" + SteadyState:
		return h.Server.SteadyState, true
	default:
		return nil, false
	}
}

// prefix returns the prefix with a slash before it and none behind it, or "".
func (h *Handler) prefix() string {
	if p := strings.Trim(h.Prefix, "/"); p != "" {
		return "/" + p
	}
	return ""
}

// bodyWithin is how long the body of a request may take.
func (h *Handler) bodyWithin() time.Duration { return cmp.Or(h.bodyTime, bodyTime) }

// body reads the body of a request.
func (h *Handler) body(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	tooLarge := &Error{Kind: KindRequestTooLarge, Value: fmt.Sprintf("the body has more than %d bytes", maxBody)}
	if r.ContentLength > maxBody {
		w.Header().Set("Connection", "close") // the rest of the body is still to come
		return nil, tooLarge
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err == nil {
		return body, nil
	}
	w.Header().Set("Connection", "close")
	var tooMany *http.MaxBytesError
	switch {
	case errors.As(err, &tooMany):
		return nil, tooLarge
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, &Error{Kind: KindRequestTimeout, Value: fmt.Sprintf("the body did not arrive within %s", h.bodyWithin())}
	default:
		return nil, &Error{Kind: KindBadRequest, Value: "the body is incomplete, or wrongly encoded"}
	}
}

// log logs an error.
func (h *Handler) log(err error) {
	if h.Log != nil {
		h.Log(err)
		return
	}
	log.Print("fleetlock: ", err)
}

// withoutPanic calls a function, and makes an error of its panic.
func withoutPanic(do func() error) (err error) {
	defer func() {
		switch v := recover(); v {
		case nil:
		case http.ErrAbortHandler:
			panic(v)
		default:
			err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
		}
	}()
	return do()
}

// answer writes an answer. An error is ignored: it means that the client has gone away.
func answer(w http.ResponseWriter, code int, document any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(document)
}
