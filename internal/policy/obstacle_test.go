package policy

import (
	"slices"
	"testing"
	"time"
)

// The daemon and locksmithctl decide by this, and say it in the same words.
func TestObstacles(t *testing.T) {
	var (
		backup = Inhibitor{Who: "rsync", Why: "nightly copy", User: "root", PID: 812}
		hidden = Inhibitor{Who: "unknown", Why: "logind does not list it", User: "unknown"}
	)
	for _, c := range []struct {
		name     string
		window   Window
		earliest time.Time
		local    Local
		want     []Obstacle
	}{
		{"nothing", nil, time.Time{}, Local{}, nil},
		{"an open window", &door{open: true}, time.Time{}, Local{}, nil},
		{"a shut window", &door{}, time.Time{}, Local{}, []Obstacle{{WindowShut, "the reboot window, which opens Mon 2026-03-02 10:00:00 UTC"}}},
		{"a blackout", &door{by: "a blackout on 2026-03-02"}, time.Time{}, Local{},
			[]Obstacle{{WindowShut, "the reboot window, which opens Mon 2026-03-02 10:00:00 UTC, after a blackout on 2026-03-02"}}},
		{"a shutdown", nil, time.Time{}, Local{Shutdown: Shutdown{Type: "poweroff", At: t0.Add(time.Hour), Message: "disks are swapped"}},
			[]Obstacle{{OtherShutdown, "a poweroff that is scheduled for Mon 2026-03-02 05:00:00 UTC (disks are swapped)"}}},
		{"a reboot under way", nil, time.Time{}, Local{Shutdown: Shutdown{Type: "reboot"}}, []Obstacle{{OtherShutdown, "a reboot that is under way"}}},
		{"logind is unclear", nil, time.Time{}, Local{Unclear: errNonsense}, []Obstacle{{Unclear, "logind, which does not say who is at work on this host: nonsense"}}},
		{"an installation", nil, time.Time{}, Local{Installing: "/var/lib/dpkg/lock-frontend"},
			[]Obstacle{{Installing, "an installation of packages, which has locked /var/lib/dpkg/lock-frontend"}}},
		{"inhibitors", nil, time.Time{}, Local{Inhibitors: []Inhibitor{backup, hidden}},
			[]Obstacle{{Inhibited, `"nightly copy" (rsync, process 812 of root), "logind does not list it" (unknown, unknown): block inhibitor`}}},
		{"many users", nil, time.Time{}, Local{Users: []string{"a", "b on tty1", "c", "d", "e", "f", "g"}},
			[]Obstacle{{LoggedIn, "users who are logged in (a, b on tty1, c, d, e, and 2 more)"}}},
		{"a young host", nil, t0.Add(time.Hour), Local{},
			[]Obstacle{{TooEarly, "the uptime of this host, which may reboot Mon 2026-03-02 05:00:00 UTC at the earliest"}}},
		{"an old host", nil, t0, Local{}, nil},
		{"a hold without a reason", nil, time.Time{}, Local{Holds: []Hold{{File: "/etc/locksmith/hold"}}},
			[]Obstacle{{Held, `the file /etc/locksmith/hold; "locksmithctl unhold" ends that`}}},
		{"a hold that ends, and one that has ended", nil, time.Time{},
			Local{Holds: []Hold{{File: "/etc/locksmith/hold", Until: t0}, {File: "/run/locksmith/hold", Reason: "disks are swapped", Until: t0.Add(1)}}},
			[]Obstacle{{Held, `the file /run/locksmith/hold, until Mon 2026-03-02 04:00:00 UTC (disks are swapped); "locksmithctl unhold" ends that`}}},
		{"a hold that cannot be read", nil, time.Time{}, Local{Holds: []Hold{{File: "/etc/locksmith/hold", Err: errNonsense}}},
			[]Obstacle{{Held, `the file /etc/locksmith/hold: nonsense; "locksmithctl unhold" ends that`}}},
		{"all at once", &door{}, t0.Add(time.Hour), Local{Holds: []Hold{{File: "/etc/locksmith/hold"}}, Users: []string{"ann"}, Inhibitors: []Inhibitor{backup}, Shutdown: Shutdown{Type: "halt"}},
			[]Obstacle{
				{WindowShut, "the reboot window, which opens Mon 2026-03-02 10:00:00 UTC"},
				{TooEarly, "the uptime of this host, which may reboot Mon 2026-03-02 05:00:00 UTC at the earliest"},
				{Held, `the file /etc/locksmith/hold; "locksmithctl unhold" ends that`},
				{OtherShutdown, "a halt that is under way"},
				{Inhibited, `"nightly copy" (rsync, process 812 of root): block inhibitor`},
				{LoggedIn, "users who are logged in (ann)"},
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Obstacles(t0, Config{Window: c.window, Earliest: c.earliest}, c.local, clock); !slices.Equal(got, c.want) {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}
