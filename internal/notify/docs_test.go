package notify

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/test/must"
)

// The document shows what is sent, and has a row for each event.
func TestExampleOfTheDocumentIsSent(t *testing.T) {
	data, err := os.ReadFile("../../docs/notifications.md")
	must.Do(t, err)
	block := func(kind string) string {
		m := regexp.MustCompile("(?s)\n```"+kind+"\n(.*?)\n```\n").FindAllSubmatch(data, -1)
		if len(m) != 1 {
			t.Fatalf("there are %d examples of %s", len(m), kind)
		}
		return string(m[0][1])
	}
	e := Event{
		ID: "6f1d0d8a4ac9a5b0a3f3a5c4f1d3c2b7", Type: RolloutStopped, Time: t0, Host: "web-1", Group: "lb", Version: "4081.2.0",
		Reason: "10-smoke: the service answers 503",
	}.Complete(t0)
	var sent bytes.Buffer
	must.Do(t, json.Indent(&sent, e.Body(), "", "  "))
	if got := strings.TrimSpace(sent.String()); got != block("json") {
		t.Errorf("sent is\n%s", got)
	}
	headers := "Content-Type: " + contentType
	for _, a := range e.attributes() {
		headers += "\n" + http.CanonicalHeaderKey("ce-"+a.name) + ": " + headerValue(a.value)
	}
	if headers != block("http") {
		t.Errorf("the headers are\n%s", headers)
	}
	for _, typ := range Types() {
		if !strings.Contains(string(data), fmt.Sprintf("\n| `%s` | ", typ)) {
			t.Errorf("there is no row for %s", typ)
		}
	}
}
