package page

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/locksmithd/locksmith/fleetlock"
	"github.com/locksmithd/locksmith/internal/fleet"
	"github.com/locksmithd/locksmith/internal/view"
)

const (
	// perPage is how many hosts a page has, unless asked for another number.
	perPage = 50
	// maxPerPage is the most that may be asked for of the page; programs may ask for more.
	maxPerPage, maxPerAnswer = 100, 1000

	// unknown stands for a version or a state that is not known.
	unknown = "unknown"
)

// query says which hosts are asked for. The zero query asks for all.
type query struct {
	State, Version, Group, Search string // "": any
	Page, Per                     int    // from 1 on
}

// parameters are the names of the parameters of a query.
var parameters = []string{"state", "os_version", "group", "q", "page", "per"}

// parseQuery reads a query. per is how many hosts a page may have at most.
func parseQuery(r *http.Request, most int) (query, error) {
	bad := func(format string, args ...any) (query, error) {
		return query{}, &failure{http.StatusBadRequest, fleetlock.KindBadRequest, fmt.Sprintf(format, args...)}
	}
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return bad("the parameters cannot be read: write them as in ?state=waiting&page=2")
	}
	for name, all := range values {
		switch {
		case !slices.Contains(parameters, name):
			return bad("there is no parameter %.40q: write one of %s", name, strings.Join(parameters, ", "))
		case len(all) > 1:
			return bad("the parameter %s is given more than once: write it once", name)
		case len(all[0]) > 1024:
			return bad("the parameter %s is longer than 1024 bytes", name)
		}
	}
	q := query{State: values.Get("state"), Version: values.Get("os_version"), Group: values.Get("group"), Search: values.Get("q"), Page: 1, Per: perPage}
	for _, number := range []struct {
		name string
		to   *int
		most int
	}{{"page", &q.Page, 1 << 30}, {"per", &q.Per, most}} {
		if text := values.Get(number.name); text != "" {
			n, err := strconv.Atoi(text)
			if err != nil || n < 1 || n > number.most {
				return bad("the parameter %s is %.40q: write a whole number from 1 to %d", number.name, text, number.most)
			}
			*number.to = n
		}
	}
	return q, nil
}

// values returns the parameters of q but the page.
func (q query) values() url.Values {
	v := url.Values{}
	for name, value := range map[string]string{"state": q.State, "os_version": q.Version, "group": q.Group, "q": q.Search} {
		if value != "" {
			v.Set(name, value)
		}
	}
	if q.Per != perPage {
		v.Set("per", strconv.Itoa(q.Per))
	}
	return v
}

// filtered reports whether not all hosts are asked for.
func (q query) filtered() bool { return cmp.Or(q.State, q.Version, q.Group, q.Search) != "" }

// stateOf and versionOf are what hosts are counted and found by.
func stateOf(h *fleet.Host) string { return cmp.Or(string(h.State), unknown) }

func versionOf(h *fleet.Host) string { return cmp.Or(h.OSVersion, unknown) }

// find returns the hosts that are asked for, of groups with these names, in the order of the groups and of the hosts'
// names.
func (q query) find(groups []fleet.Group, names map[string]string) (hosts []*fleet.Host) {
	search := strings.ToLower(q.Search)
	for i := range groups {
		g := &groups[i]
		if q.Group != "" && q.Group != names[g.Group] {
			continue
		}
		for n := range g.Hosts {
			h := &g.Hosts[n]
			switch {
			case q.State == view.NoNews && !h.NoNews:
			case q.State != "" && q.State != view.NoNews && q.State != stateOf(h):
			case q.Version != "" && q.Version != versionOf(h):
			case search != "" && !strings.Contains(strings.ToLower(h.Hostname), search) && !strings.Contains(strings.ToLower(h.ID), search):
			default:
				hosts = append(hosts, h)
			}
		}
	}
	return hosts
}

// cut returns the hosts of the page that is asked for, and how many pages there are.
func (q query) cut(hosts []*fleet.Host) (page []*fleet.Host, pages int) {
	pages = max(1, (len(hosts)+q.Per-1)/q.Per)
	if q.Page > pages {
		return nil, pages
	}
	from := (q.Page - 1) * q.Per
	return hosts[from:min(len(hosts), from+q.Per)], pages
}
