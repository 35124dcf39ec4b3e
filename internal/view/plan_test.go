package view

import (
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/internal/plan"
	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/must"
)

// rollout is a plan with a host of each kind.
func rollout() plan.Plan {
	at := func(minutes int) time.Time { return noon.Add(time.Duration(minutes) * time.Minute) }
	host := func(id string, h plan.Host) *plan.Host {
		h.ID, h.Hostname, h.Version = id, "web-"+id, "4230.2.1"
		return &h
	}
	reboots := func(id string, order, begins, ends int) *plan.Host {
		return host(id, plan.Host{Order: order, Begins: at(begins), Ends: at(ends), Took: at(ends).Sub(at(begins)), Own: order%2 == 0, Outcome: plan.Reboots})
	}
	p := plan.Plan{
		At: noon, End: at(990), Max: 2, Lost: 1, Version: "4230.2.1", Behind: 3, NoNews: 1,
		Duration: plan.Duration{Typical: 5 * time.Minute, Median: 4 * time.Minute, Short: 3 * time.Minute, Long: 9 * time.Minute, From: 12},
		Hosts: []*plan.Host{
			reboots("1", 1, -3, 2), reboots("2", 2, 2, 7), reboots("3", 3, 960, 990),
			host("4", plan.Host{Outcome: plan.Never, Cause: plan.Unwell, Detail: "after-reboot: 20-etcd: no\u202e quorum", Holds: true}),
			host("5", plan.Host{Outcome: plan.Never, Cause: plan.WindowShort}),
			host("6", plan.Host{Outcome: plan.Unforeseen, Cause: "users", Detail: "waiting: held back by users who are logged in (ann)"}),
			host("7", plan.Host{Outcome: plan.Unforeseen, Cause: "moon\x1b[2J"}),
		},
	}
	p.Hosts[0].Holds, p.Hosts[1].ZoneUnknown, p.Hosts[1].AsIf = true, true, true
	p.Hosts[2].Hostname = ""
	return p
}

func TestPlanInEveryFormat(t *testing.T) {
	zone := time.FixedZone("CET", 3600)
	paused := rollout()
	paused.Group, paused.Pause, paused.Hosts, paused.Lost, paused.Duration = "prod\n/database", &lock.Pause{By: "ann", Since: noon}, rollout().Hosts[:2], 0, plan.Duration{Typical: 5 * time.Minute}
	nothing := plan.Plan{Group: "lb", At: noon, Max: 1}
	for _, f := range Formats() {
		text, err := Format(f).Plan(rollout(), zone)
		must.Do(t, err)
		golden(t, "plan-"+f+".txt", text)
		text, err = Format(f).Plans([]plan.Plan{paused, nothing}, zone)
		must.Do(t, err)
		golden(t, "plans-"+f+".txt", text)
	}
}

func TestFirstSentenceOfAPlan(t *testing.T) {
	week := rollout()
	week.End = noon.AddDate(0, 0, 9)
	none := rollout()
	none.Hosts, none.End = none.Hosts[3:5], time.Time{}
	ends := rollout()
	ends.Pause = &lock.Pause{By: "ann", Since: noon, Until: noon.Add(time.Hour)}
	for _, c := range []struct {
		plan plan.Plan
		want []string
	}{
		{rollout(), []string{"3 of 7 hosts will have rebooted by Sun 04:30 (in 16h30m); 2 will not: web-4, web-5; for 2 nobody can say when: web-6, web-7."}},
		{week, []string{"3 of 7 hosts will have rebooted by Mon 2027-01-11 12:00 (in 9d00h);"}},
		{none, []string{"None of 2 hosts will reboot; 2 will not: web-4, web-5."}},
		{plan.Plan{At: noon}, []string{"No host needs a reboot."}},
		{ends, []string{"", "Paused: by ann, since Sat 2027-01-02 12:00:00 UTC (0s), until Sat 2027-01-02 13:00:00 UTC. The plan counts on that end."}},
	} {
		got := planSummary(c.plan, time.UTC)
		for n, want := range c.want {
			if !strings.HasPrefix(got[n], want) {
				t.Errorf("got  %s\nwant %s", got[n], want)
			}
		}
	}
}

func TestEveryCauseHasWords(t *testing.T) {
	for _, c := range []plan.Cause{plan.Held, plan.Unwell, plan.NoNews, plan.Unreadable, plan.Attempts, plan.VersionPaused, plan.NoSlot, plan.WindowShut, plan.WindowShort,
		plan.Stuck, plan.ByHand, plan.Expired, plan.WindowUnclear, plan.Far, "users", "inhibitors", "shutdown", "unclear", "may-reboot", "alerts"} {
		if planCauses[c] == "" {
			t.Errorf("%s has none", c)
		}
	}
}
