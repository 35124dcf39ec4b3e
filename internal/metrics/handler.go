package metrics

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"

	"github.com/locksmithd/locksmith/fleetlock"
	"github.com/locksmithd/locksmith/internal/fleet"
	"github.com/locksmithd/locksmith/internal/grant"
	"github.com/locksmithd/locksmith/internal/listen"
	"github.com/locksmithd/locksmith/internal/origin"
	"github.com/locksmithd/locksmith/internal/safetext"
	"github.com/locksmithd/locksmith/internal/sparse"
)

// metricsPath is where the metrics are.
const metricsPath = "/metrics"

// atOnce is how many scrapes may be under way at once. More get 503.
const atOnce = 4

// Options say what a [Handler] works with.
type Options struct {
	*Counters
	Fleet *fleet.Cache
	// Check reports for each of several users whether the password is right, see [grant.Visible].
	Check   func(ctx context.Context, address, user, password string, of []grant.Users) ([]bool, error)
	Version string
	Waiting func() int // how many requests are held open
	Limit   *listen.Limit
	Log     *slog.Logger
	// Next gets every other path.
	Next http.Handler
}

// Handler answers scrapes.
type Handler struct {
	Options
	turns    chan struct{} // holds a token for each scrape that is under way
	rejected sparse.Lines
	failed   sparse.Lines
}

var _ http.Handler = (*Handler)(nil)

// New returns a handler.
func New(o Options) *Handler { return &Handler{Options: o, turns: make(chan struct{}, atOnce)} }

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != metricsPath {
		h.Next.ServeHTTP(w, r)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		refuse(w, http.StatusMethodNotAllowed, fleetlock.KindMethodNotAllowed, "the method has to be GET")
		return
	}
	if name := listen.StrangeHost(r); name != "" {
		refuse(w, http.StatusForbidden, fleetlock.KindForbidden, "this server is not called "+safetext.Clean(name)+
			" here: ask by its address, such as http://127.0.0.1:3333/metrics")
		return
	}
	c := grant.CredentialsOf(r)
	visible, err := grant.Visible(r.Context(), h.groups(), c, h.Check)
	switch {
	case r.Context().Err() != nil:
		return
	case errors.Is(err, grant.ErrUnauthorized):
		if h.rejected.Allow(origin.Of(r.RemoteAddr) + " " + c.User) {
			h.Log.Warn("a scrape was rejected", "address", c.Address, "user", cmp.Or(safetext.Clean(c.User), "none"), "reason", err)
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="locksmith", charset="UTF-8"`)
		refuse(w, http.StatusUnauthorized, fleetlock.KindUnauthorized, err.Error())
		return
	case err != nil:
		unavailable(w, err.Error())
		return
	}
	select {
	case h.turns <- struct{}{}:
		defer func() { <-h.turns }()
	default:
		unavailable(w, "as many scrapes are under way as there may be: ask again")
		return
	}
	h.scrape(w, r, visible)
}

// scrape answers with what there is to say of some groups, by the names that clients give.
func (h *Handler) scrape(w http.ResponseWriter, r *http.Request, visible map[string]grant.Group) {
	names := map[string]string{}
	for name, g := range visible {
		names[g.Lock] = name
	}
	now := prometheus.NewPedanticRegistry()
	now.MustRegister(fleetGauges{h.Fleet.Look(r.Context()), names, func(add func(*prometheus.Desc, float64, ...string)) {
		add(info, 1, h.Version)
		add(connections, float64(h.Limit.Open()))
		add(mostConns, float64(h.Limit.Most()))
		add(refusedConn, float64(h.Limit.Refused()))
		add(waiting, float64(h.Waiting()))
	}})
	counted := prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		families, err := h.registry.Gather()
		return of(families, visible), err
	})
	promhttp.HandlerFor(prometheus.Gatherers{now, counted}, promhttp.HandlerOpts{ErrorLog: h}).ServeHTTP(w, r)
}

// of returns what counters say of some groups, or of none.
func of(families []*dto.MetricFamily, visible map[string]grant.Group) (shown []*dto.MetricFamily) {
	for _, f := range families {
		f.Metric = slices.DeleteFunc(f.Metric, func(m *dto.Metric) bool {
			return slices.ContainsFunc(m.Label, func(l *dto.LabelPair) bool {
				_, may := visible[l.GetValue()]
				return l.GetName() == "group" && l.GetValue() != "" && !may
			})
		})
		if len(f.Metric) > 0 {
			shown = append(shown, f)
		}
	}
	return shown
}

// Println implements promhttp.Logger.
func (h *Handler) Println(v ...any) {
	if h.failed.Allow("scrape") {
		h.Log.Error("a scrape has failed", "error", v)
	}
}

func unavailable(w http.ResponseWriter, value string) {
	w.Header().Set("Retry-After", "5")
	refuse(w, http.StatusServiceUnavailable, fleetlock.KindUnavailable, value)
}

// refuse answers as the handler of FleetLock does.
func refuse(w http.ResponseWriter, code int, kind, value string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]string{"kind": kind, "value": value}) // the client may have gone
}
