package grant

import (
	"errors"
	"log/slog"
	"sync"

	"github.com/locksmithd/locksmith/fleetlock"
	"github.com/locksmithd/locksmith/internal/origin"
	"github.com/locksmithd/locksmith/internal/safetext"
	"github.com/locksmithd/locksmith/internal/sparse"
)

// maxNoted is how many clients the journal remembers. It forgets all of them when there are more.
const maxNoted = 16 << 10

// journal logs what changes, and not each time that a client asks.
type journal struct {
	log     *slog.Logger
	rejects sparse.Lines

	mu     sync.Mutex
	noted  map[any]string // what was logged last
	failed string         // why etcd could not be used; "" if it could
}

const (
	granted = "granted"
	free    = "free"
)

// news notes what is to be logged about a key, and reports whether it is new.
func (j *journal) news(key any, what string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.noted[key] == what {
		return false
	}
	if j.noted == nil || len(j.noted) >= maxNoted {
		j.noted = map[any]string{}
	}
	j.noted[key] = what
	return true
}

// granted reports whether a client was last seen to take a slot.
func (j *journal) granted(c client) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.noted[c] == granted
}

// about returns the attributes of lines about a client.
func about(r *request, more ...any) []any {
	return append([]any{"group", r.client.group, "id", safetext.Clean(r.id), "address", r.address}, more...)
}

// answered logs the answer to a request for a slot, or a failure of steady-state.
func (j *journal) answered(r *request, err error) {
	var e *fleetlock.Error
	switch errors.As(err, &e); {
	case err == nil:
		if j.news(r.client, granted) {
			j.log.Info("the host may reboot: it has a slot", about(r)...)
		}
	case e != nil && j.news(r.client, e.Kind):
		j.log.Info("the host may not reboot", about(r, "kind", e.Kind, "why", e.Value)...)
	}
}

// steady logs that a client has no slot any more.
func (j *journal) steady(r *request) {
	if j.news(r.client, free) {
		j.log.Info("the host has no slot, as it asks for", about(r)...)
	}
}

// rejected logs that somebody may not use a group: once an hour for each group that is not served, and otherwise for
// each kind, group and origin.
func (j *journal) rejected(r *request, kind, value string) {
	key := kind + " " + r.client.group
	if kind != fleetlock.KindUnknownGroup {
		key += " " + origin.Of(r.address)
	}
	if j.rejects.Allow(key) {
		j.log.Warn("a request was rejected", about(r, "kind", kind, "why", value)...)
	}
}

// unreachable logs that etcd cannot be used.
func (j *journal) unreachable(err error) {
	j.mu.Lock()
	first := j.failed == ""
	j.failed = err.Error()
	j.mu.Unlock()
	if first {
		j.log.Warn("etcd cannot be used", "error", safetext.Cut(err.Error(), 1<<10))
	}
}

// reached logs that etcd can be used again.
func (j *journal) reached() {
	j.mu.Lock()
	again := j.failed != ""
	j.failed = ""
	j.mu.Unlock()
	if again {
		j.log.Info("etcd can be used again")
	}
}

// broken logs that a document cannot be understood, once for each text.
func (j *journal) broken(err error) {
	if j.news("document", err.Error()) {
		j.log.Error("the lock cannot be used", "error", safetext.Cut(err.Error(), 1<<10))
	}
}
