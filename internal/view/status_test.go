package view

import (
	"testing"
	"time"

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
