package notify

import (
	"encoding/json"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/locksmithd/locksmith/test/must"
)

var t0 = time.Date(2026, 11, 30, 4, 5, 6, 789_000_000, time.UTC)

func TestTextsSayWhatHasHappened(t *testing.T) {
	for _, test := range []struct {
		e    Event
		want string
	}{
		{Event{Type: RebootBegins, Group: "lb", Version: "4081.2.0", Reason: "update_engine"}, "web-1 (group lb) reboots for version 4081.2.0: update_engine"},
		{Event{Type: RebootBegins}, "web-1 reboots"},
		{Event{Type: BackAndWell, Version: "4081.2.0"}, "web-1 is back and well, after its reboot for version 4081.2.0"},
		{Event{Type: HookFailed, Hook: "before-reboot", Version: "4081.2.0", Reason: "50-drain: exit status 1"}, "web-1: before-reboot of the reboot for version 4081.2.0 failed: 50-drain: exit status 1"},
		{Event{Type: HookFailed, Hook: "reboot-cancelled"}, "web-1: reboot-cancelled failed"},
		{Event{Type: Unwell, Version: "4081.2.0", Reason: "10-smoke: 503"}, "web-1 is unwell after its reboot for version 4081.2.0: 10-smoke: 503"},
		{Event{Type: RolloutStopped, Group: "lb", Version: "4081.2.0", Reason: "10-smoke: 503"}, "the rollout of version 4081.2.0 (group lb) has stopped, since web-1 is unwell: 10-smoke: 503"},
		{Event{Type: RolloutStopped, By: "ann@web-1", Reason: "incident 7"}, "the rollout has stopped: ann@web-1 has paused the default group: incident 7"},
		{Event{Type: Resumed, By: "ann@web-1", Group: "lb"}, "the rollout goes on: ann@web-1 has resumed group lb"},
		{Event{Type: Resumed, By: "ann@web-1", All: true}, "the rollout goes on: ann@web-1 has resumed all groups"},
		{Event{Type: SlotExpired, Holder: "web-2", Group: "lb"}, "web-1 has taken over the expired slot of web-2 (group lb)"},
		{Event{Type: SlotExpired, Holder: "web-2", By: "ann@web-1"}, "ann@web-1 has freed the expired slot of web-2"},
		{Event{Type: AttemptsUsedUp, Version: "4081.2.0", Reason: "held back by 2 reboots"}, "web-1 does not reboot any more for version 4081.2.0: held back by 2 reboots"},
		{Event{Type: Test}, "web-1: this is a test of notifications"},
	} {
		test.e.Host = "web-1"
		if got := test.e.Text(); got != test.want {
			t.Errorf("the text is\n%s\nwant\n%s", got, test.want)
		}
	}
}

// hostile is what records of others may hold.
var hostile = []string{
	"<!channel> <https://evil.example|click> <script>alert(1)</script>", "@channel @all (@here) ann@host",
	"[click](https://evil.example) ![](https://evil.example/a.png)", "\x1b[2J\x00\r\n\u202e\u2028\u200b\x9b\xff", `"},{"text":"other`,
	strings.Repeat("\x1b", 1<<20), strings.Repeat("<", 1<<20), strings.Repeat("ä", 1<<20), strings.Repeat(`"`, 1<<20), "", " ", "a b%\"/../../",
}

// hostileEvents returns events of all types with such texts in every field.
func hostileEvents() (events []Event) {
	for _, typ := range append(Types(), Test) {
		for _, text := range hostile {
			e := Event{Type: typ, Host: text, Group: text, Version: text, Reason: text, Hook: text, By: text, Holder: text}
			events = append(events, e.Complete(t0))
		}
	}
	return events
}

func TestHostileRecordsDoNoHarm(t *testing.T) {
	mention := regexp.MustCompile(`(^|[^A-Za-z0-9])@`)
	for _, e := range hostileEvents() {
		text, document := e.Text(), e.Document()
		switch {
		case len(text) > maxText+20 || len(e.Body()) > 16<<10 || len(document) > 16<<10:
			t.Errorf("%s: a text of %d bytes, and a document of %d", e.Type, len(text), len(document))
		case !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }):
			t.Errorf("%s: not everything can be printed: %q", e.Type, text)
		case strings.ContainsAny(text, "<>[]") || mention.MatchString(text):
			t.Errorf("%s: a chat would do more than show the text: %s", e.Type, text)
		}
		var got struct {
			Text, Event, Reason string
			Time                time.Time
		}
		if err := json.Unmarshal(e.Body(), &got); err != nil || got.Text != text || got.Event != string(e.Type) || !got.Time.Equal(t0) || got.Reason != e.Reason {
			t.Errorf("the body is %.200s (%v)", e.Body(), err)
		}
	}
}

// The rules are those of the specification of CloudEvents 1.0, and of its JSON format.
func TestDocumentsAreCloudEvents(t *testing.T) {
	attribute := regexp.MustCompile(`^[a-z0-9]+$`)
	for _, e := range hostileEvents() {
		var d map[string]any
		must.Do(t, json.Unmarshal(e.Document(), &d))
		if _, ok := d["data"].(map[string]any); !ok {
			t.Fatalf("there is no data in %v", d)
		}
		delete(d, "data")
		for name, value := range d {
			text, ok := value.(string)
			if !attribute.MatchString(name) || !ok || text == "" || strings.ContainsFunc(text, unicode.IsControl) {
				t.Errorf("%s: the attribute %s is %v", e.Type, name, value)
			}
		}
		reference, err := url.Parse(d["source"].(string))
		if err != nil || reference.String() != d["source"] {
			t.Errorf("the source is %v (%v)", d["source"], err)
		}
		if at, err := time.Parse(time.RFC3339, d["time"].(string)); err != nil || !at.Equal(t0) {
			t.Errorf("the time is %v (%v)", d["time"], err)
		}
		if d["specversion"] != "1.0" || d["id"] != e.ID || d["type"] != "io.github.locksmithd."+string(e.Type) || d["datacontenttype"] != "application/json" {
			t.Errorf("the attributes are %v", d)
		}
		if names := []string{"datacontenttype", "id", "source", "specversion", "subject", "time", "type"}; !slices.Equal(sorted(d), names) {
			t.Errorf("the attributes are %v, want %v", sorted(d), names)
		}
	}
}

func sorted(m map[string]any) (names []string) {
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Mattermost and Slack read these fields besides the text, and Mattermost refuses types of others.
func TestBodyHasNoFieldsThatChatsTakeForTheirs(t *testing.T) {
	for _, e := range hostileEvents() {
		var fields map[string]any
		must.Do(t, json.Unmarshal(e.Body(), &fields))
		for _, name := range []string{
			"type", "channel", "username", "icon_url", "icon_emoji", "attachments", "props", "priority", "blocks", "mrkdwn", "parse",
			"link_names", "thread_ts", "response_type", "replace_original", "delete_original", "unfurl_links", "unfurl_media",
		} {
			if _, found := fields[name]; found {
				t.Errorf("%s: the body has a field %s", e.Type, name)
			}
		}
	}
}

func TestEventsHaveIDsOfTheirOwn(t *testing.T) {
	a, b := Event{}.Complete(t0), Event{}.Complete(t0)
	if a.ID == b.ID || !validID(a.ID) || a.Complete(t0.Add(time.Hour)) != a {
		t.Errorf("the events are %+v and %+v", a, b)
	}
	for _, id := range []string{"", "../../../etc/passwd", a.ID + "00", a.ID[1:], strings.Repeat("g", 32)} {
		if _, err := FilesOf("", id); err == nil {
			t.Errorf("%q is taken for an id", id)
		}
	}
}

func TestTypesAreNamed(t *testing.T) {
	for text, want := range map[string][]Type{
		"": Types(), " , ": Types(), "unwell": {Unwell}, "unwell,resumed": {Unwell, Resumed}, " resumed\tunwell resumed": {Resumed, Unwell},
	} {
		if got, err := ParseTypes(text); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q is read as %v (%v), want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"Unwell", "all", "unwell;resumed", "test"} {
		if got, err := ParseTypes(text); err == nil || !strings.Contains(err.Error(), "reboot-begins, back-and-well, hook-failed, unwell, rollout-stopped, resumed, slot-expired and attempts-used-up") {
			t.Errorf("%q is read as %v (%v)", text, got, err)
		}
	}
}

func TestOnlySchemeAndHostOfAURLAreShown(t *testing.T) {
	for u, want := range map[URL]string{
		"":                        "",
		"https://hooks.example":   "https://hooks.example",
		"https://hooks.example/":  "https://hooks.example",
		"https://hooks.example/K": "https://hooks.example/(hidden)", "https://hooks.example?k=K": "https://hooks.example/(hidden)",
		"http://u:K@hooks.example:8080": "http://hooks.example:8080/(hidden)", "https://K@hooks.example": "https://hooks.example/(hidden)",
		"hooks.example/K": "(hidden)", "https:/K/x": "(hidden)", "https:K": "(hidden)", "slack://K/x": "(hidden)", "https://h\x7f/K": "(hidden)", "://K": "(hidden)",
	} {
		if got := u.String(); got != want || u.GoString() != want {
			t.Errorf("%q is shown as %q, want %q", string(u), got, want)
		}
	}
	if !reflect.DeepEqual([]bool{URL("http://h/K").Exposed(), URL("http://127.0.0.1/K").Exposed(), URL("http://[::1]:1/K").Exposed(), URL("https://h/K").Exposed()}, []bool{true, false, false, false}) {
		t.Error("it is wrong which URLs are exposed on the way")
	}
}
