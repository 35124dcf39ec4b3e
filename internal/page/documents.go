package page

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/locksmithd/locksmith/internal/fleet"
	"github.com/locksmithd/locksmith/internal/view"
	"github.com/locksmithd/locksmith/lock"
)

// The documents of the API. assets/openapi.json describes their fields.

type fleetDocument struct {
	stateDocument
	Groups     json.RawMessage   `json:"groups"`                      // as locksmithctl status -all-groups -o json
	Unreadable []string          `json:"unreadable_groups,omitempty"` // whose lock cannot be understood
	Hosts      int               `json:"hosts"`
	Versions   []versionDocument `json:"versions"`
	Rollout    *rolloutDocument  `json:"rollout"`
}

// stateDocument says how new an answer is.
type stateDocument struct {
	At      *time.Time `json:"at"`
	Current bool       `json:"current"`
	Why     string     `json:"why,omitempty"`
}

type versionDocument struct {
	Version string         `json:"os_version"`
	Hosts   int            `json:"hosts"`
	States  map[string]int `json:"states"`
}

type rolloutDocument struct {
	Version  string           `json:"version"`
	From     *time.Time       `json:"from"`
	To       *time.Time       `json:"to"`
	Pending  int              `json:"pending"`
	UnderWay int              `json:"under_way"`
	Well     int              `json:"well"`
	Unwell   int              `json:"unwell"`
	Latest   []rebootDocument `json:"latest"`
	Parts    []partDocument   `json:"parts"`
}

type rebootDocument struct {
	ID          string    `json:"id"`
	Hostname    string    `json:"hostname"`
	Group       string    `json:"group"`
	From        time.Time `json:"from"`
	TookSeconds *float64  `json:"took_seconds"`
	Result      string    `json:"result"`
	Why         string    `json:"why,omitempty"`
}

type partDocument struct {
	From   time.Time `json:"from"`
	Well   int       `json:"well"`
	Unwell int       `json:"unwell"`
}

type hostsDocument struct {
	stateDocument
	Total int                      `json:"total"`
	Page  int                      `json:"page"`
	Pages int                      `json:"pages"`
	Hosts []view.FleetHostDocument `json:"hosts"`
}

func newStateDocument(s fleet.Seen) stateDocument {
	d := stateDocument{At: view.TimeOrNil(s.At), Current: s.Err == nil}
	if s.Err != nil {
		d.Why = s.Err.Error()
	}
	return d
}

func newRolloutDocument(r *rollout) *rolloutDocument {
	if r == nil {
		return nil
	}
	d := &rolloutDocument{
		Version: r.Version, From: view.TimeOrNil(r.From), To: view.TimeOrNil(r.To), Pending: r.Pending, UnderWay: r.UnderWay, Well: r.Well, Unwell: r.Unwell,
		Latest: []rebootDocument{}, Parts: []partDocument{},
	}
	for _, one := range r.Latest {
		d.Latest = append(d.Latest, rebootDocument{one.Host.ID, one.Host.Hostname, one.Host.Group, one.From.UTC(), view.SecondsOrNil(one.Took), strings.ReplaceAll(one.Result, " ", "_"), one.Why})
	}
	for _, p := range r.Parts {
		d.Parts = append(d.Parts, partDocument{p.From.UTC(), p.Well, p.Unwell})
	}
	return d
}

// versionsOf counts hosts by version and state, most hosts first.
func versionsOf(groups []fleet.Group) (versions []versionDocument, hosts int) {
	counts := map[string]map[string]int{}
	for i := range groups {
		for n := range groups[i].Hosts {
			h := &groups[i].Hosts[n]
			v := versionOf(h)
			if counts[v] == nil {
				counts[v] = map[string]int{}
			}
			counts[v][stateOf(h)]++
			hosts++
		}
	}
	versions = []versionDocument{}
	for v, states := range counts {
		d := versionDocument{Version: v, States: states}
		for _, n := range states {
			d.Hosts += n
		}
		versions = append(versions, d)
	}
	slices.SortFunc(versions, func(a, b versionDocument) int {
		if a.Hosts != b.Hosts {
			return b.Hosts - a.Hosts
		}
		return strings.Compare(b.Version, a.Version)
	})
	return versions, hosts
}

// groupsDocument returns what locksmithctl status -all-groups -o json prints of the groups that can be read.
func groupsDocument(groups []fleet.Group, now time.Time) (string, error) {
	var overviews []lock.GroupOverview
	for _, g := range groups {
		if g.Err == nil {
			overviews = append(overviews, g.GroupOverview)
		}
	}
	return view.JSON.StatusOfAll(overviews, now)
}
