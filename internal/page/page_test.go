package page_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/internal/inventory"
	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/fleettest"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/race"
)

// section returns the text of a section of the page, without its tags.
func section(page, id string) string {
	_, rest, _ := strings.Cut(page, `<section id="`+id+`"`)
	rest, _, _ = strings.Cut(rest, "</section>")
	_, rest, _ = strings.Cut(rest, ">")
	return strings.Join(strings.Fields(regexp.MustCompile(`<[^>]*>`).ReplaceAllString(rest, " ")), " ")
}

func TestPageShowsTheFleet(t *testing.T) {
	s := newSite(t, everybody())
	s.write(fleettest.Small()...)
	page := s.get("/", 200)
	for id, wants := range map[string][]string{
		"groups": {
			"default 0 of 2 2 3 24 no",
			"db 0 of 1 1 1 5 version 4230.2.1, since host db-3",
			"lb 1 of 1 0 1 4 by ann@bastion, since ", "4230.2.1 is tried on lb-1 first",
		},
		"unwell":   {"db-3 db 4230.2.1 12m its version locksmith-after-reboot.target has failed: replication is 40 s behind"},
		"holders":  {"web-12 default rebooting 1m 2m 4230.2.1 locksmithd", "web-13 default draining 1m", "db-3 db unwell 1m 12m"},
		"queue":    {"web-14 1 default 4230.2.1 46m", "web-15 2 default", "db-4 1 db"},
		"versions": {"Version Hosts unwell rebooting preparing locking waiting idle 4230.2.0 17 0 1 1 5 10 0 4230.2.1 15 1 0 0 0 0 14 4152.2.3 1 0 0 0 0 0 1"},
		"rollout": {
			"Hosts that reboot for version 4230.2.1: 32. Rebooted and well: 14; unwell: 1; under way: 2; not yet: 15.",
			"4m well", "2m under way", "12m unwell: locksmith-after-reboot.target has failed",
		},
		"plan": {"Group default 3 hosts will have rebooted &lt;soon&gt;. Host Begins Takes Note web-14 ", "1m waits &lt;now&gt; web-15", "never not known not known unwell", "Group lb 1 hosts"},
		"hosts": {
			"1 to 33 of 33", "web-1 default idle", "web-24 default idle", "Flatcar 4230.2.0 4230.2.1 04:00 2h, opens ",
			"reboot needed for version 4230.2.1; waiting for the reboot window, which opens at 04:00",
		},
	} {
		text := section(page, id)
		for _, want := range wants {
			if !strings.Contains(text, want) {
				t.Errorf("section %s does not have %q:\n%s", id, want, text)
			}
		}
	}
	if text := section(s.get("/?state=rebooting", 200), "hosts"); !strings.Contains(text, "1 to 1 of 1 ") || strings.Contains(text, "web-1 ") {
		t.Errorf("hosts that reboot: %s", text)
	}
	if text := section(s.get("/?q=no+such+host", 200), "hosts"); !strings.Contains(text, "No host matches. Show all") {
		t.Errorf("no host: %s", text)
	}
	if page := s.get("/?page=zero", 400); !strings.Contains(page, "the parameter page is &#34;zero&#34;: write a whole number from 1") {
		t.Error(page)
	}
}

// A plan is made again when the facts are others, or old.
func TestPlansAreMadeOnceForAll(t *testing.T) {
	s := newSite(t, everybody())
	s.write(fleettest.Small()...)
	for range 3 {
		s.get("/", 200)
		s.get("/api/v1/plan", 200)
	}
	if n := s.planned.Load(); n != 3 {
		t.Errorf("%d plans were made of 3 groups", n)
	}
	s.put(inventory.Host{ID: "a", Group: "lb", Hostname: "a", Updated: time.Now()})
	s.fresh()
	if s.get("/", 200); s.planned.Load() != 4 {
		t.Errorf("%d plans were made, after a change of one group", s.planned.Load())
	}
}

func TestEmptyFleet(t *testing.T) {
	page := newSite(t, everybody()).get("/", 200)
	for id, want := range map[string]string{
		"groups": "default 1 of 1 0 0 0 no", "holders": "Nobody.", "queue": "Nobody.", "versions": "No host is known.",
		"rollout": "No host needs a reboot", "plan": "No host needs a reboot.", "hosts": "No host is known",
	} {
		if text := section(page, id); !strings.Contains(text, want) {
			t.Errorf("section %s does not have %q: %s", id, want, text)
		}
	}
}

// Hosts that speak FleetLock have no record.
func TestHostsWithoutRecordsAreShown(t *testing.T) {
	s := newSite(t, everybody())
	s.putRaw(lock.Root+"/semaphore", `{"semaphore":0,"max":1,"holders":["zincati"]}`)
	page := s.get("/", 200)
	if text := section(page, "hosts"); !strings.Contains(text, "zincati default holding not known not known nothing always it keeps no record never") {
		t.Error(text)
	}
	if text := section(page, "holders"); !strings.Contains(text, "zincati default holding not known not known") {
		t.Error(text)
	}
}

func TestPageSaysWhenItIsOutOfDate(t *testing.T) {
	s := newSite(t, everybody())
	s.memory.Break(errors.New("etcd is <away>"))
	if page := s.get("/", 503); !strings.Contains(page, "nothing is known of the fleet yet: ") || !strings.Contains(page, "etcd is &lt;away&gt;") {
		t.Error(page)
	}
	s.memory.Break(nil)
	s.write(fleettest.Small()...)
	s.fresh()
	s.memory.Break(errors.New("etcd is <away>"))
	must.Eventually(t, 10*time.Second, "a page that is out of date", func() bool {
		page := s.get("/", 200)
		return strings.Contains(page, "<strong>Out of date:</strong>") && strings.Contains(page, "etcd is &lt;away&gt;") && strings.Contains(page, "web-12")
	})
	if resp := s.do(http.MethodGet, "/api/v1/groups"); resp.StatusCode != 200 || resp.Header.Get("X-Locksmith-Current") != "false" {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
}

func TestClientsSeeTheGroupsThatTheyMayUse(t *testing.T) {
	s := newSite(t, map[string]string{"default": "ann", "db": "dora", "lb": ""})
	s.write(fleettest.Small()...)
	for user, want := range map[string]string{"": "lb", "ann": "default lb", "dora": "db lb"} {
		s.user = user
		page := s.get("/", 200)
		var seen []string
		for _, group := range []struct{ name, host string }{{"default", "web-1"}, {"db", "db-1"}, {"lb", "lb-1"}} {
			inPage := strings.Contains(page, ">"+group.host+"<")
			code := 404
			for _, g := range fleettest.Small() {
				if g.Prefix == group.host[:len(group.host)-2] {
					code = s.do(http.MethodGet, "/api/v1/hosts/"+g.ID(1)).StatusCode
				}
			}
			for _, path := range []string{"/api/v1/fleet", "/api/v1/groups", "/api/v1/hosts?per=1000"} {
				if strings.Contains(s.get(path, 200), `"`+group.host+`"`) && !inPage {
					t.Errorf("user %q sees %s at %s", user, group.host, path)
				}
			}
			if inPage != (code == 200) {
				t.Errorf("user %q: the page shows %s: %v, and its document has code %d", user, group.host, inPage, code)
			}
			if inPage {
				seen = append(seen, group.name)
			}
		}
		if got := strings.Join(seen, " "); got != want {
			t.Errorf("user %q sees %s, want %s", user, got, want)
		}
	}
	s.user = "eve"
	for _, path := range []string{"/", "/api/v1/fleet", "/api/v1/events", "/api/v1/hosts", "/sign-in"} {
		resp := s.do(http.MethodGet, path)
		if resp.StatusCode != 401 || resp.Header.Get("WWW-Authenticate") != `Basic realm="locksmith", charset="UTF-8"` {
			t.Errorf("%s: %d %v", path, resp.StatusCode, resp.Header)
		}
	}
	if !strings.Contains(s.log.String(), `level=WARN msg="a request for the page was rejected" address=127.0.0.1 user=eve`) {
		t.Errorf("the log: %s", s.log.String())
	}
	s.user = ""
	if page := s.get("/", 200); !strings.Contains(page, `2 groups are shown only to their users. <a href="sign-in">Sign in</a>`) {
		t.Error("the page does not say how to see the other groups")
	}
	if resp := s.do(http.MethodGet, "/sign-in"); resp.StatusCode != 401 {
		t.Errorf("sign-in without a user: %d", resp.StatusCode)
	}
	s.user = "ann"
	if resp := s.do(http.MethodGet, "/sign-in"); resp.StatusCode != 303 || resp.Header.Get("Location") != "/" {
		t.Errorf("sign-in: %d %v", resp.StatusCode, resp.Header)
	}
}

// Only groups that are served are shown, whatever there is in the store.
func TestGroupsThatAreNotServedAreNotShown(t *testing.T) {
	s := newSite(t, map[string]string{"default": ""})
	s.write(fleettest.Small()...)
	for _, path := range []string{"/", "/api/v1/fleet", "/api/v1/groups", "/api/v1/hosts?per=1000"} {
		if body := s.get(path, 200); strings.Contains(body, "db-3") || !strings.Contains(body, "web-12") {
			t.Errorf("%s: %.500s", path, body)
		}
	}
}

func TestNothingButReading(t *testing.T) {
	s := newSite(t, everybody())
	for _, path := range []string{"/", "/api/v1/fleet", "/assets/style.css", "/api/v1/events"} {
		for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "OPTIONS"} {
			if resp := s.do(method, path); resp.StatusCode != 405 || resp.Header.Get("Allow") != "GET, HEAD" {
				t.Errorf("%s %s: %d %v", method, path, resp.StatusCode, resp.Header)
			}
		}
		if resp := s.do(http.MethodHead, path); resp.StatusCode != 200 {
			t.Errorf("HEAD %s: %d", path, resp.StatusCode)
		}
	}
	for _, path := range []string{"/v1/pre-reboot", "//v1/pre-reboot", "/v1/steady-state", "/index.html", "//"} {
		if resp := s.do("POST", path); resp.StatusCode != http.StatusTeapot {
			t.Errorf("POST %s is answered by the page: %d", path, resp.StatusCode)
		}
	}
	for _, path := range []string{"/assets/", "/assets/page.html", "/assets/..%2fpage.go", "/assets/../page.go", "/api/v1/", "/api", "/api/v2/fleet", "/api/v1/hosts/"} {
		if resp := s.do("GET", path); resp.StatusCode != 404 {
			t.Errorf("GET %s: %d", path, resp.StatusCode)
		}
	}
}

func TestEveryAnswerHasTheHeadersThatProtectIt(t *testing.T) {
	s := newSite(t, everybody())
	for _, path := range []string{"/", "/api/v1/fleet", "/assets/style.css", "/assets/nothing", "/?page=0", "/api/v1/hosts?page=0"} {
		h := s.do("GET", path).Header
		for name, want := range map[string]string{
			"Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
			"X-Content-Type-Options":  "nosniff", "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY",
			"Cross-Origin-Resource-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin", "Cache-Control": "no-store",
		} {
			if h.Get(name) != want {
				t.Errorf("%s: %s: %q", path, name, h.Get(name))
			}
		}
		if h["Set-Cookie"] != nil {
			t.Errorf("%s has a cookie", path)
		}
	}
	page := s.get("/", 200)
	if inline := regexp.MustCompile(`(?i)<style|\sstyle=|<script(?: [^>]*)?>[^<]|\son[a-z]+=|javascript:`).FindString(page); inline != "" {
		t.Errorf("the page has %q, which the policy forbids", inline)
	}
	for _, match := range regexp.MustCompile(`(?:href|src)="(assets/[^"]+)"`).FindAllStringSubmatch(page, -1) {
		resp := s.do("GET", "/"+match[1])
		if resp.StatusCode != 200 || resp.Header.Get("Cache-Control") != "public, max-age=31536000, immutable" {
			t.Errorf("%s: %d %v", match[1], resp.StatusCode, resp.Header)
		}
	}
}

// A page of somebody else, whose name was made to lead to this address, asks with that name.
func TestPagesOfOthersReadNothing(t *testing.T) {
	s := newSite(t, everybody())
	for host, want := range map[string]int{"evil.example": 403, "evil.example:3333": 403, "127.0.0.1": 200, "localhost:3333": 200, "[::1]:3333": 200} {
		for _, path := range []string{"/", "/api/v1/fleet", "/api/v1/events"} {
			if resp := s.do("HEAD", path, func(r *http.Request) { r.Host = host }); resp.StatusCode != want {
				t.Errorf("%s at %s: %d, want %d", path, host, resp.StatusCode, want)
			}
		}
	}
}

// hostile are texts that somebody may write into a record to harm who reads it.
var hostile = []string{
	`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `javascript:alert(1)`, `'"&<>` + "`{{.}}", "\x1b[2J\x1b]0;owned\x07\x00\r\n",
	"\u202eevil\u2066", strings.Repeat("A", 1<<20), strings.Repeat("<", 4000), "../../etc/passwd", "?state=idle&page=2#hosts", "%00%0d%0a",
}

func TestHostileRecordsAreOnlyText(t *testing.T) {
	s := newSite(t, everybody())
	for i, whole := range hostile {
		text := whole[:min(len(whole), 64<<10)] // etcd takes no document above 1.5 MiB
		record, err := json.Marshal(inventory.Host{
			Hostname: text, OS: text, OSVersion: text, Locksmith: text, State: inventory.State(text), Why: text, WaitsFor: text,
			Need:   &inventory.Need{Version: text, Since: time.Unix(1<<37, 0), Reasons: []string{text, text}},
			Window: &inventory.Window{Start: text, Length: text, Zone: text, Blackout: text},
			Last:   &inventory.Reboot{Version: text, At: time.Now(), Took: 1 << 62, Why: text}, Updated: time.Now(),
		})
		must.Do(t, err)
		s.putRaw(lock.Root+"/fleet/"+url.QueryEscape(fmt.Sprintf("%d-%.200s", i, text)), string(record))
		s.putRaw(lock.Root+"/fleet/"+url.QueryEscape(fmt.Sprintf("raw-%d-%.100s", i, text)), whole)
		s.putRaw(lock.Root+"/unwell/"+url.QueryEscape(fmt.Sprintf("raw-%d-%.100s", i, text)), fmt.Sprintf(`{"hostname":%q,"why":%[1]q,"version":%[1]q}`, strings.ToValidUTF8(text[:min(len(text), 4000)], "")))
	}
	s.putRaw(lock.Root+"/semaphore", `{"semaphore":0,"max":1,"holders":["<b>holder</b>"]}`)
	s.putRaw(lock.Root+"/holders/%3Cb%3Eholder%3C%2Fb%3E", `{"hostname":"<script>x</script>","by":"<script>x</script>","phase":"\"><script>x</script>","version":"<i>"}`)
	s.putRaw(lock.Root+"/pause", `{"by":"<script>ann</script>","reason":"<script>why</script>"}`)
	s.putRaw(lock.Root+"/groups/lb/semaphore", `<script>`)
	s.fresh()
	for _, path := range []string{"/", "/?per=100", "/?q=" + url.QueryEscape(hostile[1]), "/?os_version=" + url.QueryEscape(hostile[0]), "/?state=" + url.QueryEscape(hostile[1]) + "&group=%22%3E%3Cscript%3E"} {
		page := s.get(path, 200)
		if tag := regexp.MustCompile(`(?i)<script(?: src="assets/live.js\?[0-9a-f]+" defer)?>`).FindAllString(page, -1); len(tag) != 1 {
			t.Errorf("%s: scripts: %q", path, tag)
		}
		if bad := regexp.MustCompile(`(?i)<img|<b>|<i>|href="javascript|\sonerror=alert[^&]*>|[\x00-\x08\x0b-\x1f\x7f]|\x{202e}|\x{2066}`).FindString(page); bad != "" {
			t.Errorf("%s has %q", path, bad)
		}
		if len(page) > 200<<10 {
			t.Errorf("%s has %d bytes", path, len(page))
		}
	}
	for _, path := range []string{"/api/v1/fleet", "/api/v1/groups", "/api/v1/hosts?per=1000"} {
		body := s.get(path, 200)
		if bad := regexp.MustCompile(`[\x00-\x09\x0b-\x1f\x7f]|\x{202e}|\x{2066}`).FindString(body); bad != "" || len(body) > 1<<20 {
			t.Errorf("%s has %q, and %d bytes", path, bad, len(body))
		}
	}
}

// large is how many hosts a large fleet has.
const large = 10000

func TestPageOfALargeFleetIsSmall(t *testing.T) {
	hosts := large
	if race.Enabled { // to read so many would take longer than a look waits
		hosts /= 10
	}
	s := newSite(t, map[string]string{"default": ""})
	s.write(fleettest.Large(hosts)...)
	s.fresh()
	total := len(s.get("/assets/style.css", 200)) + len(s.get("/assets/live.js", 200)) + len(s.get("/assets/icon.svg", 200))
	for _, path := range []string{"/", fmt.Sprintf("/?page=%d", hosts/50), "/?state=waiting"} {
		if n := len(s.get(path, 200)) + total; n > 100_000 {
			t.Errorf("%s has %d bytes with what it loads", path, n)
		}
	}
}

func BenchmarkPage(b *testing.B) {
	s := newSite(b, map[string]string{"default": ""})
	s.write(fleettest.Large(large)...)
	s.fresh()
	measure := func(b *testing.B, path string, before func()) {
		size, spent := 0, time.Duration(0)
		for b.Loop() {
			if before != nil {
				b.StopTimer()
				before()
				b.StartTimer()
			}
			began := processor(b)
			size = len(s.get(path, 200))
			spent += processor(b) - began
		}
		b.ReportMetric(float64(b.Elapsed().Microseconds())/1000/float64(b.N), "ms/answer")
		b.ReportMetric(float64(spent.Microseconds())/1000/float64(b.N), "cpu-ms/answer")
		b.ReportMetric(float64(size), "bytes")
	}
	for _, path := range []string{"/", "/?state=waiting&page=20", "/api/v1/fleet", "/api/v1/hosts?per=1000"} {
		b.Run(path, func(b *testing.B) { measure(b, path, nil) })
	}
	// The whole fleet is read again, as happens once a second at most.
	b.Run("after a change", func(b *testing.B) {
		measure(b, "/", func() {
			s.put(inventory.Host{ID: "a", Hostname: "a", Updated: time.Now()})
			s.cache.Refresh()
			time.Sleep(time.Second)
		})
	})
}

// processor returns how much of the processors this process has used, client and server.
func processor(b *testing.B) time.Duration {
	var u syscall.Rusage
	must.Do(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
