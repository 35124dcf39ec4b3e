package listen

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/locksmithd/locksmith/fleetlock"
	"github.com/locksmithd/locksmith/internal/origin"
)

const (
	// readyTime bounds the question whether the server is ready.
	readyTime = 2 * time.Second
	// readyFor is how long an answer to that counts.
	readyFor = time.Second
)

// Handler passes requests on by their path. It answers /-/healthy, while the process runs, and /-/ready itself, whoever
// asks.
type Handler struct {
	// FleetLock gets every other path, those of the page as well. (An http.ServeMux would redirect //v1/pre-reboot.)
	FleetLock http.Handler
	// ClientCertificates says that every path but /-/healthy and /-/ready needs a client certificate.
	ClientCertificates bool
	// Rate is how many requests an origin, see package origin, may make at once, and a minute; 100 at least.
	Rate int
	// Ready returns why the server is not ready. It is called once a second at most.
	Ready func(context.Context) error
	// Refused, if it is not nil, is called with the kind of each answer by which a request was refused that others get. It
	// is called concurrently.
	Refused func(kind string)

	rate  *rate
	turn  chan struct{} // holds a token, unless somebody asks
	asked time.Time
	ready error
}

// NewHandler returns a handler.
func NewHandler(h Handler) *Handler {
	h.turn = make(chan struct{}, 1)
	h.turn <- struct{}{}
	h.rate = newRate(h.Rate)
	return &h
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	probe := r.URL.Path == "/-/healthy" || r.URL.Path == "/-/ready"
	switch {
	case !probe && h.ClientCertificates && (r.TLS == nil || len(r.TLS.VerifiedChains) == 0):
		h.refused(fleetlock.KindForbidden)
		w.Header().Set("Connection", "close")
		refuse(w, http.StatusForbidden, fleetlock.KindForbidden, "a client certificate is needed")
	case !probe && strings.HasPrefix(r.URL.Path, "/-/"):
		refuse(w, http.StatusNotFound, fleetlock.KindNotFound, "there are only /-/healthy and /-/ready")
	case !probe && !h.rate.allow(origin.Of(r.RemoteAddr), time.Now()):
		h.refused(fleetlock.KindTooManyRequests)
		refuse(w, http.StatusTooManyRequests, fleetlock.KindTooManyRequests, "too many requests come from this address: ask again in a minute")
	case !probe:
		h.FleetLock.ServeHTTP(w, r)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		refuse(w, http.StatusMethodNotAllowed, fleetlock.KindMethodNotAllowed, "the method has to be GET")
	case r.URL.Path == "/-/ready" && h.isReady(r.Context()) != nil:
		refuse(w, http.StatusServiceUnavailable, fleetlock.KindUnavailable, "not ready: the log of the server says more")
	default:
		answer(w, http.StatusOK, map[string]string{"status": strings.TrimPrefix(r.URL.Path, "/-/")})
	}
}

func (h *Handler) refused(kind string) {
	if h.Refused != nil {
		h.Refused(kind)
	}
}

// isReady returns why the server is not ready. The question goes on when the client goes away, because others may wait
// for the same answer.
func (h *Handler) isReady(ctx context.Context) error {
	select {
	case <-h.turn:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { h.turn <- struct{}{} }()
	if h.asked.IsZero() || time.Since(h.asked) >= readyFor {
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), readyTime)
		defer cancel()
		h.ready = h.Ready(limited)
		h.asked = time.Now()
	}
	return h.ready
}

// refuse answers as the handler of FleetLock does.
func refuse(w http.ResponseWriter, code int, kind, value string) {
	answer(w, code, map[string]string{"kind": kind, "value": value})
}

func answer(w http.ResponseWriter, code int, document any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(document)
}
