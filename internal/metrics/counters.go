package metrics

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/locksmithd/locksmith/fleetlock"
	"github.com/locksmithd/locksmith/internal/grant"
)

// namespace begins the name of every metric.
const namespace = "locksmith"

// kinds are the results of FleetLock requests that have series of their own.
var kinds = []string{
	fleetlock.KindLockHeld, fleetlock.KindPaused, fleetlock.KindWindowShut, fleetlock.KindUnknownGroup, fleetlock.KindBadRequest,
	fleetlock.KindMissingHeader, fleetlock.KindUnauthorized, fleetlock.KindForbidden, fleetlock.KindNotFound, fleetlock.KindMethodNotAllowed,
	fleetlock.KindRequestTimeout, fleetlock.KindRequestTooLarge, fleetlock.KindTooManyRequests, fleetlock.KindInternalError, fleetlock.KindUnavailable,
	fleetlock.KindGone, grant.KindIDInUse,
}

// Counters count what the server does, beside what does it. Their methods may be called concurrently.
type Counters struct {
	groups   func() map[string]grant.Group
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	refused  *prometheus.CounterVec
	handOver *prometheus.HistogramVec
}

// NewCounters returns counters that are zero. groups returns the groups that are served, by the names that clients give.
func NewCounters(groups func() map[string]grant.Group) *Counters {
	c := &Counters{
		groups:   groups,
		registry: prometheus.NewPedanticRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "fleetlock_requests_total",
			Help: "FleetLock requests by operation and result: ok, or the kind of the error in the answer.",
		}, []string{"operation", "group", "result"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "http_requests_refused_total",
			Help: "Requests that were refused, whatever they asked for: forbidden without a client certificate, or too_many_requests.",
		}, []string{"reason"}),
		handOver: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Name: "hand_over_seconds",
			Help:    "Time from a client's request to give its slot back until the next client, whose request was held open, had it.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"group"}),
	}
	c.registry.MustRegister(c.requests, c.refused, c.handOver)
	for _, reason := range []string{fleetlock.KindForbidden, fleetlock.KindTooManyRequests} {
		c.refused.WithLabelValues(reason)
	}
	return c
}

// Answered counts a request, see [fleetlock.Handler]. A group that is not served is "".
func (c *Counters) Answered(operation, group, kind string) {
	if _, served := c.groups()[group]; !served {
		group = ""
	}
	switch {
	case kind == "":
		kind = "ok"
	case !slices.Contains(kinds, kind):
		kind = other
	}
	if operation == "" {
		operation = other
	}
	c.requests.WithLabelValues(operation, group, kind).Inc()
}

// Refused counts a request that was refused before anybody looked at what it asks for.
func (c *Counters) Refused(kind string) { c.refused.WithLabelValues(kind).Inc() }

// HandedOver counts a hand-over.
func (c *Counters) HandedOver(group string, took time.Duration) {
	c.handOver.WithLabelValues(group).Observe(took.Seconds())
}
