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
		name   string
		window Window
		local  Local
		want   []Obstacle
	}{
		{"nothing", nil, Local{}, nil},
		{"an open window", &door{open: true}, Local{}, nil},
		{"a shut window", &door{}, Local{}, []Obstacle{{WindowShut, "the reboot window, which opens Mon 2026-03-02 10:00:00 UTC"}}},
		{"a shutdown", nil, Local{Shutdown: Shutdown{Type: "poweroff", At: t0.Add(time.Hour), Message: "disks are swapped"}},
			[]Obstacle{{OtherShutdown, "a poweroff that is scheduled for Mon 2026-03-02 05:00:00 UTC (disks are swapped)"}}},
		{"a reboot under way", nil, Local{Shutdown: Shutdown{Type: "reboot"}}, []Obstacle{{OtherShutdown, "a reboot that is under way"}}},
		{"logind is unclear", nil, Local{Unclear: errNonsense}, []Obstacle{{Unclear, "logind, which does not say who is at work on this host: nonsense"}}},
		{"inhibitors", nil, Local{Inhibitors: []Inhibitor{backup, hidden}},
			[]Obstacle{{Inhibited, `"nightly copy" (rsync, process 812 of root), "logind does not list it" (unknown, unknown): block inhibitor`}}},
		{"many users", nil, Local{Users: []string{"a", "b on tty1", "c", "d", "e", "f", "g"}},
			[]Obstacle{{LoggedIn, "users who are logged in (a, b on tty1, c, d, e, and 2 more)"}}},
		{"all at once", &door{}, Local{Users: []string{"ann"}, Inhibitors: []Inhibitor{backup}, Shutdown: Shutdown{Type: "halt"}},
			[]Obstacle{
				{WindowShut, "the reboot window, which opens Mon 2026-03-02 10:00:00 UTC"},
				{OtherShutdown, "a halt that is under way"},
				{Inhibited, `"nightly copy" (rsync, process 812 of root): block inhibitor`},
				{LoggedIn, "users who are logged in (ann)"},
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Obstacles(t0, c.window, c.local, clock); !slices.Equal(got, c.want) {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}
