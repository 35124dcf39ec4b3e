package page

import (
	"cmp"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/locksmithd/locksmith/internal/fleet"
	"github.com/locksmithd/locksmith/internal/safetext"
	"github.com/locksmithd/locksmith/internal/view"
	"github.com/locksmithd/locksmith/lock"
)

// How much is shown: lines of a section, and bytes of a text that others have written.
const (
	maxHolders, maxQueue, maxUnwell, maxVersions = 20, 10, 10, 12
	maxName, maxWhy                              = 64, 160
)

var pages = template.Must(template.ParseFS(files, "assets/*.html"))

// pageData is what the page shows.
type pageData struct {
	Asset    func(string) template.URL
	Title    string
	Now      string // for the script
	State    stateLine
	User     string
	Locked   int
	Groups   []groupRow
	Holders  list[holderRow]
	Queue    list[queueRow]
	Unwell   list[unwellRow]
	Versions versionTable
	Rollout  *rolloutData
	CanPlan  bool
	Plans    []planRow
	Hosts    hostList
}

// stateLine says how new the page is.
type stateLine struct {
	At      moment
	Failure string // why it may be out of date; "" if it is not
}

// moment is a time, or "" for one that is not known.
type moment struct {
	Machine string // for programs
	Text    string
	Age     string // before the page was written
}

// list is the first lines of a section.
type list[Row any] struct {
	Rows []Row
	More int // that are left out
	Link template.URL
}

type hostCell struct {
	Name, ID, Group string
	Link            template.URL // its document
}

type groupRow struct {
	Name                       string
	Free, Max, Held, Wait, All int
	Pauses                     []string
	Failure                    string
	Link                       template.URL // its hosts
}

type holderRow struct {
	Host         hostCell
	Phase, Why   string
	Since        moment // of the phase
	Held         moment
	Version, By  string
	Late, Broken bool
}

type queueRow struct {
	Place        int
	Host         hostCell
	Version, Why string
	Since        moment
}

type unwellRow struct {
	Host         hostCell
	Version, Why string
	Since        moment
	Pauses       string
}

type versionTable struct {
	States []string
	Rows   []versionRow
	More   int // versions that are left out
}

type versionRow struct {
	Version string
	Link    template.URL
	Hosts   int
	Cells   []stateCell
}

type stateCell struct {
	State string
	Hosts int
	Link  template.URL
}

type rolloutData struct {
	rollout
	Name          string
	First, Last   moment
	All           int
	WellW, OtherW int // of a bar, in thousandths
	Chart         chart
	Columns       []column
	More          int // reboots that are not in the chart
}

// column is a part of the time of a rollout in a drawing 48 columns wide and 100 high.
type column struct {
	X, Y, H, BadY, BadH int
	From                moment
	Well, Unwell        int
}

type hostList struct {
	Query           query
	Groups, States  []string
	Total, From, To int
	Pages           int
	Previous, Next  template.URL
	All             template.URL // "" if all are shown
	Rows            []hostRow
}

type hostRow struct {
	Host                         hostCell
	State, Why                   string
	Since                        moment
	Version, OS, Need            string
	Window                       string
	Opens                        moment
	Updated                      moment
	NoRecord, NoNews, Unreadable bool
}

// writer makes the data of a page.
type writer struct {
	now   time.Time         // when the page is written, in the zone of the page
	names map[string]string // of the groups, as clients call them
}

func (w *writer) moment(t time.Time) moment {
	if t.IsZero() {
		return moment{}
	}
	return moment{t.UTC().Format(time.RFC3339), view.Timestamp(t, w.now), view.Elapsed(t, w.now)}
}

func (w *writer) host(id, hostname, group string) hostCell {
	c := hostCell{Name: name(cmp.Or(hostname, id)), ID: name(id), Group: name(w.names[group])}
	if len(id) <= 256 {
		c.Link = template.URL("api/v1/hosts/" + url.PathEscape(id))
	}
	return c
}

func name(s string) string { return safetext.Cut(s, maxName) }
func why(s string) string  { return safetext.Cut(s, maxWhy) }

// link returns the address of the page for a query.
func link(q query, page int, section string) template.URL {
	v := q.values()
	if page > 1 {
		v.Set("page", fmt.Sprint(page))
	}
	address := "./"
	if len(v) > 0 {
		address += "?" + v.Encode()
	}
	return template.URL(address + section)
}

// servePage answers with the page.
func (h *Handler) servePage(w http.ResponseWriter, r *http.Request, a *access) error {
	q, err := parseQuery(r, maxPerPage)
	if err != nil {
		return err
	}
	seen, err := h.look(r, a)
	if err != nil {
		return err
	}
	return h.send(w, r, "text/html; charset=utf-8", nil, func() (string, error) {
		now := time.Now().In(h.Zone())
		writer := &writer{now: now, names: a.groups}
		data := writer.page(seen, a, q)
		if data.CanPlan = h.Plan != nil; data.CanPlan {
			writer.addPlans(&data, seen, func(g fleet.Group) Plan { return h.planOf(seen, g, now) })
		}
		var text strings.Builder
		err := pages.ExecuteTemplate(&text, "page", data)
		return text.String(), err
	})
}

// page returns what the page shows, but for the plans.
func (w *writer) page(seen fleet.Seen, a *access, q query) pageData {
	d := pageData{
		Asset: asset, Now: w.now.UTC().Format(time.RFC3339), User: safetext.Cut(a.user, maxName), Locked: a.locked,
		State: stateLine{At: w.moment(seen.At)}, Rollout: w.rollout(seen),
	}
	if seen.Err != nil {
		d.State.Failure = safetext.Cut(seen.Err.Error(), 1<<10)
	}
	for i := range seen.Groups {
		g := &seen.Groups[i]
		d.Groups = append(d.Groups, w.group(g))
		for n := range g.Holders {
			d.Holders.Rows = append(d.Holders.Rows, w.holder(g.Group, &g.Holders[n]))
		}
		for n := range g.Queue[:min(len(g.Queue), maxQueue)] { // the first of each group
			d.Queue.Rows = append(d.Queue.Rows, w.waiting(g.Group, n+1, g.Queue[n]))
		}
		d.Queue.More += max(0, len(g.Queue)-maxQueue)
		for _, u := range g.Unwell {
			d.Unwell.Rows = append(d.Unwell.Rows, w.unwell(g.Group, u))
		}
	}
	d.Holders.cut(maxHolders, "")
	d.Queue.cut(10*maxQueue, link(query{State: "locking", Per: perPage}, 1, "#hosts"))
	d.Unwell.cut(maxUnwell, link(query{State: unwell, Per: perPage}, 1, "#hosts"))
	d.Versions = w.versions(seen.Groups)
	d.Hosts = w.hosts(seen, q, a)
	held, waiting := 0, 0
	for _, g := range d.Groups {
		held, waiting = held+g.Held, waiting+g.Wait
	}
	d.Title = fmt.Sprintf("%d hold a slot, %d wait: the fleet", held, waiting)
	return d
}

func (l *list[Row]) cut(most int, more template.URL) {
	if len(l.Rows) > most {
		l.More += len(l.Rows) - most
		l.Rows = l.Rows[:most]
	}
	l.Link = more
}

func (w *writer) group(g *fleet.Group) groupRow {
	row := groupRow{
		Name: name(w.names[g.Group]), Free: g.Semaphore.Free, Max: g.Semaphore.Max, Held: len(g.Holders), Wait: len(g.Queue), All: len(g.Hosts),
		Link: link(query{Group: w.names[g.Group], Per: perPage}, 1, "#hosts"),
	}
	if g.Err != nil {
		row.Failure = safetext.Cut(g.Err.Error(), 1<<10)
		return row
	}
	if g.Pause != nil {
		row.Pauses = append(row.Pauses, view.Pause(g.Pause, w.now))
	}
	pauses := g.VersionPauses()
	for _, p := range pauses[:min(len(pauses), maxUnwell)] {
		row.Pauses = append(row.Pauses, view.Pause(p, w.now))
	}
	return row
}

func (w *writer) holder(group string, h *lock.HolderInfo) holderRow {
	r := h.Record
	return holderRow{
		Host: w.host(h.ID, r.Hostname, group), Phase: name(cmp.Or(string(r.Phase), string(fleet.Holding))), Why: why(cmp.Or(r.PhaseWhy, r.Reason)),
		Since: w.moment(r.PhaseSince), Held: w.moment(r.Since), Version: name(r.Version), By: name(r.By), Late: h.Expired, Broken: h.Broken,
	}
}

func (w *writer) waiting(group string, place int, e lock.QueueEntry) queueRow {
	return queueRow{place, w.host(e.ID, e.Hostname, group), name(e.Version), why(e.Reason), w.moment(e.Since)}
}

func (w *writer) unwell(group string, u lock.UnwellHost) unwellRow {
	row := unwellRow{w.host(u.ID, u.Hostname, group), name(u.Version), why(u.Why), w.moment(u.Since), "its version"}
	switch {
	case u.Resumed:
		row.Pauses = "nothing, resumed"
	case u.Broken:
		row.Pauses = "every version"
	case u.Left:
		row.Pauses = "the version it left"
	}
	return row
}

// states are what hosts are counted and found by, see stateOf.
var states = append(fleet.States(), unknown)

func (w *writer) versions(groups []fleet.Group) (t versionTable) {
	all, _ := versionsOf(groups)
	t.More = max(0, len(all)-maxVersions)
	all = all[:min(len(all), maxVersions)]
	t.States = slices.DeleteFunc(slices.Clone(states), func(state string) bool {
		return !slices.ContainsFunc(all, func(v versionDocument) bool { return v.States[state] > 0 })
	})
	for _, v := range all {
		row := versionRow{Version: name(v.Version), Hosts: v.Hosts, Link: link(query{Version: v.Version, Per: perPage}, 1, "#hosts")}
		for _, state := range t.States {
			row.Cells = append(row.Cells, stateCell{state, v.States[state], link(query{Version: v.Version, State: state, Per: perPage}, 1, "#hosts")})
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

func (w *writer) rollout(seen fleet.Seen) *rolloutData {
	r := rolloutOf(seen.Groups, seen.At)
	if r == nil {
		return nil
	}
	d := &rolloutData{rollout: *r, Name: "version " + name(r.Version), First: w.moment(r.From), Last: w.moment(r.To)}
	if r.Version == "" {
		d.Name = "no version"
	}
	done := r.Well + r.Unwell + r.UnderWay
	if d.All = done + r.Pending; d.All > 0 {
		d.WellW, d.OtherW = r.Well*1000/d.All, (r.Unwell+r.UnderWay)*1000/d.All
	}
	d.More = done - len(r.Latest)
	most := 1
	for _, p := range r.Parts {
		most = max(most, p.Well+p.Unwell)
	}
	for i, p := range r.Parts {
		if p.Well+p.Unwell == 0 {
			continue
		}
		all, bad := (p.Well+p.Unwell)*100/most, p.Unwell*100/most
		if p.Unwell > 0 {
			bad = max(bad, 4)
		}
		all = max(all, 4, bad)
		d.Columns = append(d.Columns, column{X: i, Y: 100 - all, H: all, BadY: 100 - bad, BadH: bad, From: w.moment(p.From), Well: p.Well, Unwell: p.Unwell})
	}
	c := chart{}
	for _, one := range r.Latest {
		if end := one.end(seen.At); end.After(c.To) {
			c.To = end
		}
		if c.From.IsZero() || one.From.Before(c.From) {
			c.From = one.From
		}
	}
	for _, one := range r.Latest {
		b := bar{Host: w.host(one.Host.ID, one.Host.Hostname, one.Host.Group), From: w.moment(one.From), Result: one.Result, Class: strings.ReplaceAll(one.Result, " ", "-")}
		if one.Why != "" && one.Result == unwell {
			b.Result += ": " + why(one.Why)
		}
		if end := one.end(seen.At); end.After(one.From) {
			b.Length = view.Elapsed(one.From, end)
		}
		b.X, b.W = c.place(one.From, one.end(seen.At))
		c.Rows = append(c.Rows, b)
	}
	d.Chart = c
	return d
}

func (w *writer) hosts(seen fleet.Seen, q query, a *access) hostList {
	found := q.find(seen.Groups, a.groups)
	page, pages := q.cut(found)
	l := hostList{Query: q, Total: len(found), Pages: pages, States: append(slices.Clone(states), view.NoNews)}
	for _, g := range seen.Groups {
		l.Groups = append(l.Groups, w.names[g.Group])
	}
	if q.filtered() {
		l.All = link(query{Per: perPage}, 1, "#hosts")
	}
	if q.Page > 1 {
		l.Previous = link(q, min(q.Page-1, pages), "#hosts")
	}
	if q.Page < pages {
		l.Next = link(q, q.Page+1, "#hosts")
	}
	if len(page) > 0 {
		l.From = (q.Page-1)*q.Per + 1
		l.To = l.From + len(page) - 1
	}
	for _, h := range page {
		row := hostRow{
			Host: w.host(h.ID, h.Hostname, h.Group), State: name(stateOf(h)), Why: why(h.Why), Since: w.moment(h.Since), Version: name(h.OSVersion), OS: name(h.OS),
			Updated: w.moment(h.Updated), NoRecord: h.NoRecord, NoNews: h.NoNews, Unreadable: h.Broken,
		}
		if h.Need != nil {
			row.Need = cmp.Or(name(h.Need.Version), "a reboot")
		}
		if h.Window != nil {
			row.Window = strings.TrimSpace(name(h.Window.Start) + " " + name(h.Window.Length))
		}
		if h.Opens.After(w.now) {
			row.Opens = w.moment(h.Opens)
		}
		l.Rows = append(l.Rows, row)
	}
	return l
}
