package page_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/locksmithd/locksmith/internal/inventory"
	"github.com/locksmithd/locksmith/internal/view"
	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/fleettest"
	"github.com/locksmithd/locksmith/test/must"
)

// contract is the OpenAPI file.
type contract struct {
	t        *testing.T
	compiler *jsonschema.Compiler
	document map[string]any
}

// newContract reads the file. What it does not name is not allowed here: programs have to expect new fields, but the
// file has to name each.
func newContract(t *testing.T) *contract {
	t.Helper()
	data, err := os.ReadFile("assets/openapi.json")
	must.Do(t, err)
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	must.Do(t, err)
	var shut func(any)
	shut = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if _, object := v["properties"]; object && v["type"] == "object" {
				v["additionalProperties"] = false
			}
			for _, child := range v {
				shut(child)
			}
		case []any:
			for _, child := range v {
				shut(child)
			}
		}
	}
	shut(document)
	c := &contract{t, jsonschema.NewCompiler(), document.(map[string]any)}
	c.compiler.AssertFormat()
	must.Do(t, c.compiler.AddResource("openapi.json", document))
	return c
}

// check checks an answer against what the file says about a path and a code, as it is written there.
func (c *contract) check(path string, code int, body []byte) {
	c.t.Helper()
	at := fmt.Sprintf("/paths/%s/get/responses/%d", strings.ReplaceAll(path, "/", "~1"), code)
	responses := c.document["paths"].(map[string]any)[path].(map[string]any)["get"].(map[string]any)["responses"].(map[string]any)
	response, found := responses[fmt.Sprint(code)].(map[string]any)
	if !found {
		c.t.Errorf("the file does not say that %s answers %d", path, code)
		return
	}
	if ref, ok := response["$ref"].(string); ok {
		at = strings.TrimPrefix(ref, "#")
	}
	schema, err := c.compiler.Compile("openapi.json#" + at + "/content/application~1json/schema")
	must.Do(c.t, err)
	answer, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	must.Do(c.t, err)
	if err := schema.Validate(answer); err != nil {
		c.t.Errorf("%s: the answer is not what the file says: %v\n%.500s", path, err, body)
	}
}

func TestEveryAnswerIsWhatTheOpenAPIFileSays(t *testing.T) {
	c := newContract(t)
	s := newSite(t, everybody())
	ask := func(path, url string, code int) []byte {
		t.Helper()
		body := []byte(s.get(url, code))
		c.check(path, code, body)
		return body
	}
	ask("/api/v1/fleet", "/api/v1/fleet", 200)
	ask("/api/v1/hosts", "/api/v1/hosts", 200)
	s.write(fleettest.Small()...)
	s.put(inventory.Host{ID: "bare", Hostname: "bare"})
	s.putRaw(lock.Root+"/fleet/broken", "not JSON")
	s.putRaw(lock.Root+"/pause-all", `{"by":"ann"}`)
	s.putRaw(lock.Root+"/groups/lb/semaphore", "not JSON")
	s.fresh()
	body := ask("/api/v1/fleet", "/api/v1/fleet", 200)
	if got := string(regexp.MustCompile(`"unreadable_groups": \[\s*"lb"\s*\]`).Find(body)); got == "" {
		t.Error("the group whose lock cannot be understood is not named")
	}
	ask("/api/v1/groups", "/api/v1/groups", 200)
	ask("/api/v1/plan", "/api/v1/plan", 200)
	for _, q := range []string{"", "?state=idle&per=2&page=2", "?q=web-1&group=default", "?os_version=4230.2.1", "?per=1000", "?page=99", "?state=no-news", "?group=nowhere"} {
		ask("/api/v1/hosts", "/api/v1/hosts"+q, 200)
	}
	for _, q := range []string{"?page=0", "?page=x", "?per=1001", "?colour=red", "?q=a&q=b", "?q=%zz", "?q=" + strings.Repeat("x", 2000)} {
		ask("/api/v1/hosts", "/api/v1/hosts"+q, 400)
	}
	var hosts struct{ Hosts []struct{ ID string } }
	must.Do(t, json.Unmarshal([]byte(s.get("/api/v1/hosts?per=1000", 200)), &hosts))
	if len(hosts.Hosts) != 35 {
		t.Errorf("%d hosts", len(hosts.Hosts))
	}
	for _, h := range hosts.Hosts {
		ask("/api/v1/hosts/{id}", "/api/v1/hosts/"+h.ID, 200)
	}
	ask("/api/v1/hosts/{id}", "/api/v1/hosts/nobody", 404)
	ask("/api/v1/openapi.json", "/api/v1/openapi.json", 200)
	s.get("/api/v1/nothing", 404)
	s.serve(map[string]string{"default": "ann"})
	ask("/api/v1/fleet", "/api/v1/fleet", 401)
	ask("/api/v1/hosts", "/api/v1/hosts", 401)
}

// The documents of groups are those of locksmithctl status.
func TestGroupsAreTheDocumentsOfStatus(t *testing.T) {
	s := newSite(t, everybody())
	s.write(fleettest.Small()...)
	overviews, err := lock.NewGroups(s.memory, 1).Overviews(t.Context())
	must.Do(t, err)
	want, err := view.JSON.StatusOfAll(overviews, time.Now())
	must.Do(t, err)
	if got := s.get("/api/v1/groups", 200); got != want {
		t.Errorf("groups:\n%s\nstatus:\n%s", got, want)
	}
}

func TestHostsAreFoundAndPaged(t *testing.T) {
	s := newSite(t, everybody())
	s.write(fleettest.Small()...)
	for query, want := range map[string]string{
		"":                                  "33 1/1",
		"?per=10":                           "33 1/4",
		"?per=10&page=4":                    "33 4/4",
		"?group=db":                         "5 1/1",
		"?group=default":                    "24 1/1",
		"?state=locking":                    "5 1/1",
		"?state=locking&group=lb":           "1 1/1",
		"?os_version=4152.2.3":              "1 1/1",
		"?q=WEB-2":                          "6 1/1",
		"?q=" + "00000064":                  "5 1/1",
		"?state=unwell&os_version=4230.2.1": "1 1/1",
		"?state=nonsense":                   "0 1/1",
	} {
		var d struct{ Total, Page, Pages int }
		must.Do(t, json.Unmarshal([]byte(s.get("/api/v1/hosts"+query, 200)), &d))
		if got := fmt.Sprintf("%d %d/%d", d.Total, d.Page, d.Pages); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
}

func TestPagesAreTheWholeFleet(t *testing.T) {
	s := newSite(t, everybody())
	s.write(fleettest.Small()...)
	ids := func(query string) (ids []string) {
		var d struct{ Hosts []struct{ ID string } }
		must.Do(t, json.Unmarshal([]byte(s.get("/api/v1/hosts"+query, 200)), &d))
		for _, h := range d.Hosts {
			ids = append(ids, h.ID)
		}
		return ids
	}
	all := ids("?per=1000")
	var paged []string
	for n := 1; n <= 5; n++ {
		paged = append(paged, ids(fmt.Sprintf("?per=10&page=%d", n))...)
	}
	if len(all) != 33 || !slices.Equal(all, paged) {
		t.Errorf("all hosts are\n%s\nand by page\n%s", all, paged)
	}
}

// stream reads the events of a stream.
func (s *site) stream() (next func() map[string]any, ended func() bool) {
	s.t.Helper()
	resp := s.do(http.MethodGet, "/api/v1/events")
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		s.t.Fatalf("%d %v", resp.StatusCode, resp.Header)
	}
	events := make(chan string)
	go func() {
		defer close(events)
		var rest string
		for buffer := make([]byte, 1<<12); ; {
			n, err := resp.Body.Read(buffer)
			rest += string(buffer[:n])
			for {
				event, after, found := strings.Cut(rest, "\n\n")
				if !found {
					break
				}
				if rest = after; strings.Contains(event, "data: ") {
					events <- event
				}
			}
			if err != nil {
				return
			}
		}
	}()
	next = func() map[string]any {
		s.t.Helper()
		event := must.Receive(s.t, 10*time.Second, "an event", events)
		_, data, _ := strings.Cut(event, "data: ")
		var d map[string]any
		if err := json.Unmarshal([]byte(data), &d); err != nil {
			s.t.Fatalf("%q: %v", event, err)
		}
		return d
	}
	ended = func() bool {
		select {
		case event, open := <-events:
			return !open && event == ""
		case <-time.After(10 * time.Second):
			return false
		}
	}
	return next, ended
}

func TestEventsSayWhichGroupsHaveChanged(t *testing.T) {
	c := newContract(t)
	schema, err := c.compiler.Compile("openapi.json#/components/schemas/Event")
	must.Do(t, err)
	s := newSite(t, map[string]string{"default": "", "lb": "", "db": "ann"})
	s.write(fleettest.Small()...)
	next, ended := s.stream()
	event := next()
	if got := fmt.Sprint(event["changed"]); got != "[ lb]" || event["current"] != true {
		t.Errorf("the first event: %v", event)
	}
	must.Do(t, schema.Validate(event))
	s.put(inventory.Host{ID: "a", Group: "db", Hostname: "a", Updated: time.Now()}) // not for everybody
	s.put(inventory.Host{ID: "a", Group: "lb", Hostname: "a", Updated: time.Now()})
	if got := fmt.Sprint(next()["changed"]); got != "[lb]" {
		t.Errorf("group lb has changed, and the event says %s", got)
	}
	s.memory.Break(io.ErrUnexpectedEOF)
	if event = next(); event["current"] != false || event["why"] == "" {
		t.Errorf("etcd is away: %v", event)
	}
	must.Do(t, schema.Validate(event))
	s.memory.Break(nil)
	if event = next(); event["current"] != true {
		t.Errorf("etcd is back: %v", event)
	}
	s.serve(map[string]string{"default": "", "lb": "ann", "db": "ann"})
	s.put(inventory.Host{ID: "b", Group: "lb", Hostname: "b", Updated: time.Now()})
	if !ended() {
		t.Error("the stream goes on, although the client may not see all that it could")
	}
}

func TestStreamsAreBoundedAndEndWithTheServer(t *testing.T) {
	s := newSite(t, everybody())
	var all []func() bool
	for range 3 {
		next, ended := s.stream()
		next()
		all = append(all, ended)
	}
	if body := s.get("/api/v1/events", 503); !strings.Contains(body, "too many pages are open") {
		t.Error(body)
	}
	s.cache.Stop()
	for _, ended := range all {
		if !ended() {
			t.Fatal("a stream goes on after the end of the server")
		}
	}
}
