package view

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"

	"go.yaml.in/yaml/v3"

	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/must"
)

func TestStatusInEveryFormat(t *testing.T) {
	held := overview(3, []lock.HolderInfo{holding("1", noon.In(time.FixedZone("CET", 3600))), {ID: "2", Broken: true, Expired: true}, {ID: "3\x1b[2J"}},
		waiting("a", noon.Add(-time.Hour)), lock.QueueEntry{ID: "b"})
	held.Pause = &lock.Pause{By: "ann@bastion", Since: noon, Until: noon.Add(2 * time.Hour), Reason: "bad\x1b release", All: true}
	over := overview(0, []lock.HolderInfo{holding("1", noon)})
	over.Pause = &lock.Pause{Broken: true}
	groups := []lock.GroupOverview{{Overview: held}, {Group: "prod\n/database", Overview: overview(1, nil)}, {Group: "lb", Overview: over}}
	now := noon.Add(25 * time.Hour).In(time.FixedZone("CET", 3600))
	for _, f := range Formats() {
		t.Run(f, func(t *testing.T) {
			text, err := Format(f).Status(groups[0], now)
			must.Do(t, err)
			golden(t, "status-"+f+".txt", text)
			text, err = Format(f).StatusOfAll(groups, now)
			must.Do(t, err)
			golden(t, "groups-"+f+".txt", text)
			none, err := Format(f).StatusOfAll(nil, now)
			must.Do(t, err)
			if want := map[string]string{"json": "[]\n", "yaml": "[]\n"}[f]; none != want {
				t.Errorf("without a group it is %q, want %q", none, want)
			}
		})
	}
}

func TestStatusOfAnUnwellHostInEveryFormat(t *testing.T) {
	a, unwell := sick("a", noon, "after-reboot: 20-etcd: no\x1b quorum")
	checking := holding("b", noon)
	checking.Record.Phase, checking.Record.PhaseSince = lock.Checking, noon.Add(time.Hour)
	_, other := sick("c", noon, "after-reboot: 20-etcd: slow")
	_, left := sick("d", noon, "")
	left.Version, left.Left = "4230.2.0", true
	_, resumed := sick("e", time.Time{}, "")
	resumed.Resumed = true
	o := overview(3, []lock.HolderInfo{a, checking, holding("c", noon)}, waiting("f", noon))
	o.Unwell = []lock.UnwellHost{unwell, other, left, resumed, {ID: "g", Broken: true}}
	groups := []lock.GroupOverview{{Overview: o}}
	for _, f := range Formats() {
		text, err := Format(f).Status(groups[0], noon.Add(2*time.Hour))
		must.Do(t, err)
		golden(t, "unwell-"+f+".txt", text)
		text, err = Format(f).StatusOfAll(groups, noon.Add(2*time.Hour))
		must.Do(t, err)
		golden(t, "unwell-groups-"+f+".txt", text)
	}
	o.Pause = &lock.Pause{By: "ann"}
	if text := pauses(o, noon); text != "by ann" {
		t.Errorf("during a pause of everything it is %q", text)
	}
}

func TestStatusSaysWhyHostsWithoutAVersionReboot(t *testing.T) {
	holder := holding("a", noon)
	holder.Record.Version, holder.Record.Reason = "", "/run/reboot-required (libc6)"
	o := overview(1, []lock.HolderInfo{holder}, waiting("b", noon), waiting("c", noon))
	o.Queue[0].Version, o.Queue[0].Reason = "", "/run/reboot-required (linux-\x1b[2Jimage)"
	for _, f := range Formats() {
		text, err := Format(f).Status(lock.GroupOverview{Overview: o}, noon.Add(time.Hour))
		must.Do(t, err)
		golden(t, "reasons-"+f+".txt", text)
	}
}

// Whatever others have written, a document has no character that a terminal acts upon, and programs read it as it was.
func TestDocumentsEscapeWhatTerminalsActUpon(t *testing.T) {
	for _, written := range []string{
		"\u202egro.live", "zero\u200bwidth", "\u00a0", "\ufeffmark", "tag\U000e0041", "c1\u009b2J", "\x1b[2J", "\u2028line", "two\nlines\u202e",
		"true", "1", "~", "", " a: b # c", "it's \"quoted\"\\u202e", "läuft", "two\nlines", strings.Repeat("long \u202e", 100),
	} {
		for f, read := range map[Format]func([]byte, any) error{JSON: json.Unmarshal, YAML: yaml.Unmarshal} {
			text, err := f.Status(lock.GroupOverview{Overview: overview(1, []lock.HolderInfo{{ID: "1", Record: lock.Record{Hostname: written}}})}, noon)
			must.Do(t, err)
			if strings.ContainsFunc(text, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) {
				t.Errorf("%s of %q is not escaped: %q", f, written, text)
			}
			var d Document
			must.Do(t, read([]byte(text), &d))
			if want := []holderDocument{{ID: "1", Hostname: written}}; !reflect.DeepEqual(d.Holders, want) {
				t.Errorf("%s of %q is read as %+v: %s", f, written, d.Holders, text)
			}
		}
	}
}
