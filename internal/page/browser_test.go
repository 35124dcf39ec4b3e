package page_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/internal/inventory"
	"github.com/locksmithd/locksmith/test/browser"
	"github.com/locksmithd/locksmith/test/fleettest"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/realpart"
)

// tab is a page in a real Chromium.
type tab struct {
	*browser.Tab
	t *testing.T
}

func openBrowser(t *testing.T) *tab {
	t.Helper()
	b, err := browser.Start()
	realpart.Must(t, err)
	t.Cleanup(func() { must.Do(t, b.Close()) })
	page, err := b.Tab()
	must.Do(t, err)
	return &tab{page, t}
}

// eval returns the value of an expression.
func eval[T any](t *tab, expression string) (value T) {
	t.t.Helper()
	must.Do(t.t, t.Eval(expression, &value))
	return value
}

// await waits until an expression is true.
func (t *tab) await(expression string) {
	t.t.Helper()
	must.Eventually(t.t, 30*time.Second, expression, func() bool { return eval[bool](t, expression) })
}

func TestBrowserShowsChangesAtOnce(t *testing.T) {
	tab := openBrowser(t)
	s := newSite(t, everybody())
	s.write(fleettest.Small()...)
	must.Do(t, tab.Open(s.server.URL+"/?q=web#hosts"))
	tab.await(`document.getElementById("live").textContent == "This page updates itself."`)
	if n := eval[int](tab, `document.querySelectorAll("#hosts tbody tr").length`); n != 24 {
		t.Errorf("%d hosts are shown", n)
	}
	// What the reader does stays as it is.
	must.Do(t, tab.Eval(`document.getElementById("rollout-numbers").open = true; document.querySelector("#rollout-numbers summary").focus(); document.querySelector("#hosts input[name=q]").value = "half a wo"`, nil))
	must.Do(t, tab.Eval(`window.here = true`, nil))
	s.put(inventory.Host{ID: fleettest.Small()[0].ID(24), Hostname: "web-24", State: "preparing", Why: "draining <b>", OSVersion: "1.2.3", Updated: time.Now()})
	tab.await(`document.querySelector("#hosts-list").textContent.includes("draining <b>")`)
	tab.await(`document.querySelector("#versions").textContent.includes("1.2.3")`)
	tab.await(`document.getElementById("rollout-numbers").open`)
	if got := eval[string](tab, `[window.here, document.activeElement.localName, document.querySelector("#hosts input[name=q]").value].join()`); got != "true,summary,half a wo" {
		t.Errorf("after a change: %s", got)
	}
	s.putRaw("coreos.com/updateengine/rebootlock/pause", `{"by":"ann","reason":"stop"}`)
	tab.await(`document.querySelector("#groups").textContent.includes("by ann: stop")`)

	s.memory.Break(fmt.Errorf("etcd is away"))
	tab.await(`document.getElementById("state").textContent.includes("Out of date:")`)
	s.memory.Break(nil)
	tab.await(`!document.getElementById("state").textContent.includes("Out of date:")`)
	if problems := tab.Problems(); len(problems) > 0 {
		t.Errorf("the browser complains: %s", problems)
	}
	s.cache.Stop()
	s.server.CloseClientConnections()
	s.server.Close()
	tab.await(`/does not update itself|could not update itself/.test(document.getElementById("live").textContent)`)
}

func TestPageIsCompleteWithoutScripts(t *testing.T) {
	tab := openBrowser(t)
	s := newSite(t, everybody())
	s.write(fleettest.Small()...)
	must.Do(t, tab.Scripts(false))
	must.Do(t, tab.Open(s.server.URL+"/"))
	for _, id := range []string{"groups", "unwell", "holders", "queue", "versions", "rollout", "plan", "hosts"} {
		if !eval[bool](tab, fmt.Sprintf(`(() => { const s = document.getElementById(%q); return s.offsetHeight > 40 && (s.innerText.includes("db") || s.innerText.includes("4230.2.1")) })()`, id)) {
			t.Errorf("section %s cannot be read without scripts", id)
		}
	}
	if eval[bool](tab, `document.getElementById("live").offsetHeight > 0`) {
		t.Error("the page says something about updating itself")
	}
	// The form works, too.
	must.Do(t, tab.Eval(`document.querySelector("#hosts select[name=state]").value = "unwell"; document.querySelector("#hosts form").submit()`, nil))
	tab.await(`document.readyState == "complete" && location.search.includes("state=unwell") && document.querySelectorAll("#hosts-list tbody tr").length == 1`)
}

// contrast is a function that returns texts of the page whose contrast to their background is below 4.5, as WCAG 2
// wants it.
const contrast = `(() => {
  const rgb = (c) => c.match(/[\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4).reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (e) => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
  const bad = new Set();
  for (const e of document.querySelectorAll("body *")) {
    if (![...e.childNodes].some((n) => n.nodeType == 3 && n.textContent.trim()) || !e.offsetHeight) continue;
    const [a, b] = [light(rgb(getComputedStyle(e).color)), light(behind(e))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) bad.add(e.localName + "." + e.className + " " + getComputedStyle(e).color);
  }
  return [...bad];
})()`

func TestPageFitsPhonesAndTheDark(t *testing.T) {
	tab := openBrowser(t)
	s := newSite(t, everybody())
	s.write(fleettest.Small()...)
	s.put(inventory.Host{ID: strings.Repeat("x", 200), Hostname: strings.Repeat("W", 250), Why: strings.Repeat("W", 250), OSVersion: strings.Repeat("W", 250), Updated: time.Now()})
	for i, state := range []string{"starting", "settling", "releasing", "checking", "left", "unreadable", "holding"} {
		s.put(inventory.Host{ID: fmt.Sprint(i), Hostname: state, State: inventory.State(state), OSVersion: fleettest.New, Updated: time.Now()})
	}
	paper := map[string]bool{}
	for _, width := range []int{320, 390, 768, 897, 1280} {
		for _, dark := range []bool{false, true} {
			must.Do(t, tab.Size(width, 800))
			must.Do(t, tab.Dark(dark))
			must.Do(t, tab.Open(s.server.URL+"/"))
			if over := eval[int](tab, `document.documentElement.scrollWidth - innerWidth`); over > 0 {
				t.Errorf("%d pixels wide: the page is %d pixels wider", width, over)
			}
			if bad := eval[[]string](tab, contrast); len(bad) > 0 {
				t.Errorf("%d pixels wide, dark %v: too little contrast: %s", width, dark, bad)
			}
			if small := eval[[]string](tab, `[...document.querySelectorAll("input, select, button")].filter((e) => e.offsetHeight < 24).map((e) => e.name)`); len(small) > 0 {
				t.Errorf("%d pixels wide: too small for a finger: %s", width, small)
			}
			paper[eval[string](tab, `getComputedStyle(document.body).backgroundColor`)] = true
		}
	}
	if len(paper) != 2 {
		t.Errorf("the backgrounds are %v", paper)
	}
}

func TestScreenReadersAreToldWhatIsWhere(t *testing.T) {
	tab := openBrowser(t)
	s := newSite(t, everybody())
	s.write(fleettest.Small()...)
	for _, width := range []int{390, 1280} {
		must.Do(t, tab.Size(width, 800))
		must.Do(t, tab.Open(s.server.URL+"/"))
		tab.await(`document.getElementById("live").textContent == "This page updates itself."`)
		nodes, err := tab.Accessibility()
		must.Do(t, err)
		count := map[string]int{}
		roles := map[string]int{}
		for _, n := range nodes {
			count[n.Role+" "+n.Name]++
			roles[n.Role]++
			switch n.Role {
			case "link", "button", "textbox", "searchbox", "combobox", "region", "navigation", "heading", "image":
				if n.Name == "" {
					t.Errorf("%d pixels wide: a %s has no name", width, n.Role)
				}
			}
		}
		for _, want := range []string{
			"banner ", "main ", "contentinfo ", "navigation Sections", "navigation Pages of hosts", "search Hosts",
			"heading locksmith", "heading Groups", "heading Who holds a slot", "heading This rollout", "heading Hosts",
			"region Groups", "region Who waits for a slot", "region Hosts by version and state",
			"searchbox Name or id", "combobox State", "textbox Version", "combobox Group", "button Show",
			"link Skip to the fleet", "columnheader Slots free", "columnheader Phase", "rowheader web-12", "rowheader db", "status ",
			"image Reboots over time; the table below has the numbers",
		} {
			if count[want] == 0 {
				t.Errorf("%d pixels wide: there is no %s", width, want)
			}
		}
		if tables := eval[int](tab, `document.querySelectorAll("table").length`); roles["table"] < tables-1 { // one is in a closed <details>
			t.Errorf("%d pixels wide: %d of %d tables are tables", width, roles["table"], tables)
		}
		if levels := eval[string](tab, `[...document.querySelectorAll("h1, h2, h3")].map((h) => h.localName).join("").replace(/(h2(h3)*)+/, "h2")`); levels != "h1h2" {
			t.Errorf("the headings are %s", levels)
		}
	}
}
