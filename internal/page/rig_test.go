package page_test

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/internal/fleet"
	"github.com/locksmithd/locksmith/internal/grant"
	"github.com/locksmithd/locksmith/internal/inventory"
	"github.com/locksmithd/locksmith/internal/page"
	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/fleettest"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/storetest"
)

// site is a page over a store in memory.
type site struct {
	t       testing.TB
	memory  *storetest.Memory
	cache   *fleet.Cache
	groups  atomic.Value // map[string]grant.Group
	log     buffer
	server  *httptest.Server
	planned atomic.Int64 // plans that were made
	user    string       // with which get asks; "" for none
}

// buffer is a log that may be read while it is written.
type buffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// users are users with one password.
type users string

func (u users) Check(context.Context, string, string, string) (bool, error) { panic("not used") }

// password is that of every user.
const password = "sesame"

// newSite returns a page that serves groups, by their names and the users of each, "" for everybody.
func newSite(t testing.TB, groups map[string]string) *site {
	t.Helper()
	s := &site{t: t, memory: storetest.NewMemory()}
	s.serve(groups)
	s.cache = fleet.NewCache(s.memory, func() (sources []fleet.Source) {
		for _, g := range s.served() {
			sources = append(sources, fleet.Source{Group: g.Lock, Max: g.Max})
		}
		slices.SortFunc(sources, func(a, b fleet.Source) int { return cmp.Compare(a.Group, b.Group) })
		return sources
	}, 3)
	handler := page.New(page.Options{
		Fleet: s.cache, Groups: s.served, Zone: func() *time.Location { return time.UTC }, Log: slog.New(slog.NewTextHandler(&s.log, nil)),
		Check: func(_ context.Context, _, user, given string, of []grant.Users) ([]bool, error) {
			right := make([]bool, len(of))
			for i, u := range of {
				right[i] = user == string(u.(users)) && given == password
			}
			return right, nil
		},
		Plan: func(g fleet.Group, now time.Time) page.Plan {
			s.planned.Add(1)
			return planOf(g, now)
		},
		Next: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Error(w, "next", http.StatusTeapot) }),
	})
	s.server = httptest.NewServer(handler)
	t.Cleanup(func() { s.cache.Stop(); s.server.Close() })
	return s
}

func (s *site) served() map[string]grant.Group { return s.groups.Load().(map[string]grant.Group) }

// serve replaces the groups that are served.
func (s *site) serve(groups map[string]string) {
	served := map[string]grant.Group{}
	for name, user := range groups {
		g := grant.Group{Lock: name, Max: 1}
		if name == "default" {
			g.Lock = ""
		}
		if user != "" {
			g.Users = users(user)
		}
		served[name] = g
	}
	s.groups.Store(served)
}

// everybody serves the groups of a small fleet to everybody.
func everybody() map[string]string { return map[string]string{"default": "", "db": "", "lb": ""} }

// write writes a fleet.
func (s *site) write(groups ...fleettest.Group) {
	s.t.Helper()
	must.Do(s.t, fleettest.Write(context.Background(), s.memory, groups, time.Now()))
}

// put writes a record.
func (s *site) put(h inventory.Host) {
	s.t.Helper()
	records, err := inventory.New(s.memory, h.Group)
	must.Do(s.t, err)
	must.Do(s.t, records.Put(context.Background(), h))
}

// putRaw writes what any client of the store may write.
func (s *site) putRaw(key, value string) {
	s.t.Helper()
	_, _, err := s.memory.Commit(context.Background(), nil, []lock.Op{{Key: key, Value: []byte(value)}})
	must.Do(s.t, err)
}

// fresh waits until the page knows what is in the store now. It is read once a second at most.
func (s *site) fresh() {
	s.t.Helper()
	now := time.Now()
	s.cache.Refresh()
	must.Eventually(s.t, 10*time.Second, "a newer fleet", func() bool { return s.cache.Look(s.t.Context()).At.After(now) })
}

// do makes a request.
func (s *site) do(method, path string, change ...func(*http.Request)) *http.Response {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.server.URL+path, nil)
	must.Do(s.t, err)
	if s.user != "" {
		r.SetBasicAuth(s.user, password)
	}
	for _, f := range change {
		f(r)
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(r)
	must.Do(s.t, err)
	s.t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// get returns the body of an answer, which has to have a code.
func (s *site) get(path string, code int) string {
	s.t.Helper()
	resp := s.do(http.MethodGet, path)
	body, err := io.ReadAll(resp.Body)
	must.Do(s.t, err)
	if resp.StatusCode != code {
		s.t.Fatalf("%s: code %d, want %d: %.300s", path, resp.StatusCode, code, body)
	}
	return string(body)
}

// planOf is a plan in which the hosts that wait reboot one after another, a minute each.
func planOf(g fleet.Group, now time.Time) page.Plan {
	type document struct {
		Group    string         `json:"group"`
		At       time.Time      `json:"at"`
		End      *time.Time     `json:"end"`
		Summary  string         `json:"summary"`
		Max      int            `json:"max"`
		Lost     int            `json:"lost"`
		Version  string         `json:"version"`
		Behind   int            `json:"behind"`
		NoNews   int            `json:"no_news"`
		Paused   *int           `json:"paused"`
		Duration map[string]int `json:"duration"`
		Hosts    []int          `json:"hosts"`
	}
	p := page.Plan{Summary: fmt.Sprintf("%d hosts will have rebooted <soon>.", len(g.Queue)), Document: document{
		Group: g.Group, At: now, Hosts: []int{}, Duration: map[string]int{"typical_seconds": 1, "median_seconds": 1, "short_seconds": 1, "long_seconds": 1, "from": 0},
	}}
	for i, q := range g.Queue {
		begins := now.Add(time.Duration(i) * time.Minute)
		p.Hosts = append(p.Hosts, page.PlannedHost{ID: q.ID, Hostname: q.Hostname, Begins: begins, Ends: begins.Add(time.Minute), Note: "waits <now>"})
	}
	if len(p.Hosts) > 0 {
		p.Hosts = append(p.Hosts, page.PlannedHost{ID: "never", Hostname: "never", Note: "unwell"})
	}
	return p
}
