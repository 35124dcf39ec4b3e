package page

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/locksmithd/locksmith/fleetlock"
	"github.com/locksmithd/locksmith/internal/fleet"
	"github.com/locksmithd/locksmith/internal/view"
)

const (
	apiPath     = "/api/v1/"
	openapiPath = apiPath + "openapi.json"
)

// look returns the fleet as a client may see it. It fails where nothing is known yet.
func (h *Handler) look(r *http.Request, a *access) (fleet.Seen, error) {
	seen := h.Fleet.Look(r.Context())
	if seen.At.IsZero() {
		return seen, &failure{http.StatusServiceUnavailable, fleetlock.KindUnavailable, fmt.Sprintf("nothing is known of the fleet yet: %v", seen.Err)}
	}
	groups := seen.Groups
	seen.Groups = nil
	for _, g := range groups {
		if _, visible := a.groups[g.Group]; visible {
			seen.Groups = append(seen.Groups, g)
		}
	}
	return seen, nil
}

// serveAPI answers a request for a document.
func (h *Handler) serveAPI(w http.ResponseWriter, r *http.Request, a *access) error {
	name, _ := strings.CutPrefix(r.URL.Path, apiPath)
	var document func(fleet.Seen) (string, error)
	switch id, one := strings.CutPrefix(name, "hosts/"); {
	case name == "events":
		return h.serveEvents(w, r, a)
	case name == "fleet":
		document = writeFleet
	case name == "groups":
		document = func(seen fleet.Seen) (string, error) { return groupsDocument(seen.Groups, seen.At) }
	case name == "plan" && h.Plan != nil:
		document = func(seen fleet.Seen) (string, error) { return h.plansDocument(seen, time.Now()) }
	case name == "hosts":
		q, err := parseQuery(r, maxPerAnswer)
		if err != nil {
			return err
		}
		document = func(seen fleet.Seen) (string, error) { return writeHosts(seen, q, a) }
	case one && id != "":
		document = func(seen fleet.Seen) (string, error) { return writeHost(seen, id) }
	default:
		return &failure{http.StatusNotFound, fleetlock.KindNotFound, "the API has no such document: " + openapiPath + " lists the documents"}
	}
	seen, err := h.look(r, a)
	if err != nil {
		return err
	}
	state := map[string]string{ // for documents that have no fields for this
		"Last-Modified":       seen.At.UTC().Format(http.TimeFormat),
		"X-Locksmith-Current": strconv.FormatBool(seen.Err == nil),
	}
	return h.send(w, r, "application/json", state, func() (string, error) { return document(seen) })
}

func writeFleet(seen fleet.Seen) (string, error) {
	groups, err := groupsDocument(seen.Groups, seen.At)
	if err != nil {
		return "", err
	}
	d := fleetDocument{stateDocument: newStateDocument(seen), Groups: json.RawMessage(groups), Rollout: newRolloutDocument(rolloutOf(seen.Groups, seen.At))}
	d.Versions, d.Hosts = versionsOf(seen.Groups)
	for _, g := range seen.Groups {
		if g.Err != nil {
			d.Unreadable = append(d.Unreadable, g.Group)
		}
	}
	return view.JSON.Marshal(d)
}

func writeHosts(seen fleet.Seen, q query, a *access) (string, error) {
	found := q.find(seen.Groups, a.groups)
	page, pages := q.cut(found)
	d := hostsDocument{stateDocument: newStateDocument(seen), Total: len(found), Page: q.Page, Pages: pages, Hosts: []view.FleetHostDocument{}}
	for _, host := range page {
		d.Hosts = append(d.Hosts, view.NewFleetHostDocument(host))
	}
	return view.JSON.Marshal(d)
}

// writeHost writes the host with an id. If it has records in several groups, the one with news counts.
func writeHost(seen fleet.Seen, id string) (string, error) {
	var found []*fleet.Host
	for i := range seen.Groups {
		for n := range seen.Groups[i].Hosts {
			if h := &seen.Groups[i].Hosts[n]; h.ID == id {
				found = append(found, h)
			}
		}
	}
	if len(found) == 0 {
		return "", &failure{http.StatusNotFound, fleetlock.KindNotFound, "no host that you may see has this id"}
	}
	return view.JSON.Marshal(view.NewFleetHostDocument(slices.MinFunc(found, func(a, b *fleet.Host) int { return rank(a) - rank(b) })))
}

// rank is lower the more is known of a host.
func rank(h *fleet.Host) int {
	switch {
	case h.NoRecord:
		return 2
	case h.NoNews:
		return 1
	}
	return 0
}

const (
	// beat is the longest time between two writes to an event stream, and between two checks of it.
	beat = 15 * time.Second
	// writeTime is how long a reader of an event stream may take for an event.
	writeTime = 10 * time.Second
)

// eventDocument is what an event says.
type eventDocument struct {
	stateDocument
	// Changed are the groups that have changed since the event before; "" is the default group.
	Changed []string `json:"changed"`
}

// serveEvents answers with a stream of events. It ends when the server stops, and when the client may see other groups
// than at its beginning.
func (h *Handler) serveEvents(w http.ResponseWriter, r *http.Request, a *access) error {
	follower, err := h.Fleet.Follow()
	if err != nil {
		return &failure{http.StatusServiceUnavailable, fleetlock.KindUnavailable, "too many pages are open: this one does not update itself"}
	}
	defer follower.Close()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // or nginx would keep events back
	if r.Method == http.MethodHead {
		return nil
	}
	stream := http.NewResponseController(w)
	send := func(text string) error {
		_ = stream.SetWriteDeadline(time.Now().Add(writeTime)) // only writers of tests have no deadlines
		if _, err := w.Write([]byte(text)); err != nil {
			return err
		}
		return stream.Flush()
	}
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	sent := map[string]uint64{}
	last := ""
	for text := "retry: 3000\n\n"; ; {
		seen := h.Fleet.Look(r.Context())
		d := eventDocument{stateDocument: newStateDocument(seen), Changed: []string{}}
		for group, count := range seen.Changes {
			if _, visible := a.groups[group]; visible && sent[group] != count {
				d.Changed = append(d.Changed, group)
				sent[group] = count
			}
		}
		slices.Sort(d.Changed)
		if state := fmt.Sprint(d.Current, d.Why); len(d.Changed) > 0 || state != last {
			last = state
			data, err := json.Marshal(d)
			if err != nil {
				return err
			}
			text += "event: fleet\ndata: " + string(data) + "\n\n"
		}
		if text == "" {
			text = ": \n\n" // so that both ends notice when the other one is gone
		}
		if send(text) != nil {
			return nil
		}
		text = ""
		select {
		case <-r.Context().Done():
			return nil
		case <-follower.Stopped():
			return nil
		case <-ticker.C:
		case <-follower.Changed():
		}
		if now, err := h.admit(r); err != nil || !maps.Equal(now.groups, a.groups) {
			return nil
		}
	}
}
