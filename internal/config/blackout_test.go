package config

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/internal/zone"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/randtest"
	"github.com/locksmithd/locksmith/window"
)

// newWindow returns a window in a time zone. Start, length and blackout may be empty.
func newWindow(t *testing.T, start, length, blackout, zoneName string) *Window {
	t.Helper()
	conf := fmt.Sprintf("LOCKSMITHD_REBOOT_WINDOW_START='%s'\nLOCKSMITHD_REBOOT_WINDOW_LENGTH=%s\nLOCKSMITHD_BLACKOUT='%s'\nLOCKSMITHD_REBOOT_WINDOW_TIMEZONE=%s\n",
		start, length, blackout, zoneName)
	return mustLoad(t, Options{Program: Daemon, Root: newRoot(t, map[string]string{etc: conf})}).Window
}

func TestBlackoutKeepsTheWindowShut(t *testing.T) {
	const at = "2006-01-02 15:04"
	for _, c := range []struct {
		name, start, length, blackout, zone string
		now, opens, shuts                   string // by the zone's clock, "" for a zero time
		by                                  string
	}{
		{"a day of the window", "Thu 04:00", "1h", "2026-12-24", "UTC", "2026-12-23 12:00", "2026-12-31 04:00", "2026-12-31 05:00", "a blackout on 2026-12-24"},
		{"during it", "Thu 04:00", "1h", "2026-12-24", "UTC", "2026-12-24 04:30", "2026-12-31 04:00", "2026-12-31 05:00", "a blackout on 2026-12-24"},
		{"several weeks", "Thu 04:00", "1h", "2026-12-23/2027-01-02", "UTC", "2026-12-20 12:00", "2027-01-07 04:00", "2027-01-07 05:00", "a blackout from 2026-12-23 to 2027-01-02"},
		{"two of them", "Thu 04:00", "1h", "2026-12-31; 2026-12-24", "UTC", "2026-12-23 12:00", "2027-01-07 04:00", "2027-01-07 05:00", "a blackout on 2026-12-24, a blackout on 2026-12-31"},
		{"two, of which one counts", "Thu 04:00", "1h", "2026-12-24; 2027-01-01", "UTC", "2026-12-23 12:00", "2026-12-31 04:00", "2026-12-31 05:00", "a blackout on 2026-12-24"},
		{"a day without the window", "Thu 04:00", "1h", "2026-12-23", "UTC", "2026-12-23 12:00", "2026-12-24 04:00", "2026-12-24 05:00", ""},
		{"it is over", "Thu 04:00", "1h", "2026-12-22", "UTC", "2026-12-23 12:00", "2026-12-24 04:00", "2026-12-24 05:00", ""},
		{"it begins in an opening", "Thu 22:00", "4h", "2026-12-25", "UTC", "2026-12-24 23:00", "2026-12-24 22:00", "2026-12-25 00:00", ""},
		{"it has begun in an opening", "Thu 22:00", "4h", "2026-12-25", "UTC", "2026-12-25 00:00", "2026-12-31 22:00", "2027-01-01 02:00", "a blackout on 2026-12-25"},
		{"it ends in an opening", "Thu 22:00", "4h", "2026-12-24", "UTC", "2026-12-24 23:00", "2026-12-25 00:00", "2026-12-25 02:00", "a blackout on 2026-12-24"},
		{"it has ended in an opening", "Thu 22:00", "4h", "2026-12-24", "UTC", "2026-12-25 01:00", "2026-12-25 00:00", "2026-12-25 02:00", ""},
		{"they end together", "Thu 22:00", "2h", "2026-12-24", "UTC", "2026-12-24 23:00", "2026-12-31 22:00", "2027-01-01 00:00", "a blackout on 2026-12-24"},
		{"an opening that began inside it", "0 * * * *", "30m", "2026-12-24", "Asia/Kolkata", "2026-12-24 12:00", "2026-12-25 00:00", "2026-12-25 00:30", "a blackout on 2026-12-24"},
		{"a day inside an opening", "Thu 22:00", "48h", "2026-12-25", "UTC", "2026-12-24 23:00", "2026-12-24 22:00", "2026-12-25 00:00", ""},
		{"after the day inside an opening", "Thu 22:00", "48h", "2026-12-25", "UTC", "2026-12-26 01:00", "2026-12-26 00:00", "2026-12-26 22:00", ""},
		{"no window, before", "", "", "2026-12-24", "Europe/Berlin", "2026-12-23 12:00", "", "2026-12-24 00:00", ""},
		{"no window, during", "", "", "2026-12-24", "Europe/Berlin", "2026-12-24 23:59", "2026-12-25 00:00", "", "a blackout on 2026-12-24"},
		{"no window, after", "", "", "2026-12-24", "Europe/Berlin", "2026-12-25 00:00", "2026-12-25 00:00", "", ""},
		{"no window, between two", "", "", "2026-12-24; 2027-04-02/2027-04-05", "Asia/Tokyo", "2027-01-01 00:00", "2026-12-25 00:00", "2027-04-02 00:00", ""},
		{"days that follow each other", "", "", "2026-12-25/2026-12-31;2026-12-24 ; 2027-01-01/2027-01-02", "UTC", "2026-12-24 00:00", "2027-01-03 00:00", "", "a blackout from 2026-12-24 to 2027-01-02"},
		{"days that overlap", "", "", "2026-12-24/2027-01-02; 2026-12-25", "UTC", "2026-12-24 00:00", "2027-01-03 00:00", "", "a blackout from 2026-12-24 to 2027-01-02"},
		{"the zone of the start", "CRON_TZ=Asia/Tokyo 0 4 * * *", "1h", "2026-12-24", "UTC", "2026-12-23 19:30", "2026-12-24 19:00", "2026-12-24 20:00", "a blackout on 2026-12-24"},
		// The clock of Cairo went from midnight to 1:00 on 26 April 2024, and that of Havana from 1:00 to midnight on 3
		// November 2024.
		{"midnight that is skipped", "", "", "2024-04-25", "Africa/Cairo", "2024-04-25 12:00", "2024-04-26 01:00", "", "a blackout on 2024-04-25"},
		{"a day that begins later", "", "", "2024-04-26", "Africa/Cairo", "2024-04-25 12:00", "", "2024-04-26 01:00", ""},
		{"midnight that comes twice", "", "", "2024-11-03", "America/Havana", "2024-11-02 12:00", "", "2024-11-03 00:00", ""},
		// Samoa had no 30 December 2011.
		{"a day that does not exist", "Thu 22:00", "4h", "2011-12-30", "Pacific/Apia", "2011-12-29 23:00", "2011-12-29 22:00", "2011-12-31 02:00", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			loc, err := time.LoadLocation(c.zone)
			must.Do(t, err)
			w := newWindow(t, c.start, c.length, c.blackout, c.zone)
			now, err := time.ParseInLocation(at, c.now, loc)
			must.Do(t, err)
			shown := func(t time.Time) string {
				if t.IsZero() {
					return ""
				}
				return t.In(loc).Format(at)
			}
			start, end := w.Next(now)
			if shown(start) != c.opens || shown(end) != c.shuts {
				t.Errorf("it is open from %q to %q, want %q to %q", shown(start), shown(end), c.opens, c.shuts)
			}
			if got := w.ShutBy(now); got != c.by {
				t.Errorf("it is shut by %q, want %q", got, c.by)
			}
		})
	}
}

// Next agrees with a look at each half hour whether the window without the blackout is open, and the day not
// one of the blackout.
func TestBlackoutAgreesWithACalendar(t *testing.T) {
	rnd := rand.New(rand.NewPCG(randtest.Seed(t), 0))
	const step = 30 * time.Minute
	for range 12 {
		name := []string{"Europe/Berlin", "Africa/Cairo", "America/Havana", "Asia/Kathmandu", "UTC"}[rnd.IntN(5)]
		loc, err := time.LoadLocation(name)
		must.Do(t, err)
		z, err := zone.Named(name, nil)
		must.Do(t, err)
		begin := time.Date(2024, time.Month(1+rnd.IntN(12)), 1+rnd.IntN(28), 0, 0, 0, 0, loc)
		var off []string
		for range rnd.IntN(6) {
			first := begin.AddDate(0, 0, rnd.IntN(20)-2)
			off = append(off, first.Format(time.DateOnly)+"/"+first.AddDate(0, 0, rnd.IntN(4)).Format(time.DateOnly))
		}
		var blackout []days
		if len(off) > 0 {
			blackout, err = parseDays(strings.Join(off, ";"))
			must.Do(t, err)
		}
		var openings *window.Window
		if rnd.IntN(4) > 0 {
			openings, err = window.Parse([]string{"22:00", "Mon-Fri 04:00", "0 0,6 * * *"}[rnd.IntN(3)], []string{"15m", "3h", "5h"}[rnd.IntN(3)], loc)
			must.Do(t, err)
		}
		w := &Window{openings, blackout, z}
		regular := func(at time.Time) bool { return openings == nil || openings.Open(at) }
		dark := func(at time.Time) bool {
			return slices.ContainsFunc(off, func(d string) bool {
				first, last, _ := strings.Cut(d, "/")
				today := at.In(loc).Format(time.DateOnly)
				return first <= today && today <= last
			})
		}
		for i := range 15 * 48 {
			at := begin.Add(time.Duration(i) * step)
			start, end := w.Next(at)
			open := regular(at) && !dark(at)
			switch {
			case open == start.After(at):
				t.Fatalf("%v, %s: at %v it is open from %v to %v", w, name, at, start, end)
			case !end.IsZero() && !end.After(at), !start.IsZero() && !end.IsZero() && !end.After(start):
				t.Fatalf("%v, %s: at %v the opening is from %v to %v", w, name, at, start, end)
			}
			// It opens and shuts exactly then, and no blackout is named where none makes a difference.
			if !start.IsZero() && (dark(start) || !regular(start)) || !end.IsZero() && regular(end) && !dark(end) {
				t.Fatalf("%v, %s: at %v the opening is from %v to %v", w, name, at, start, end)
			}
			later := false
			if openings == nil {
				later = dark(at)
			} else if without, _ := openings.Next(at); !open {
				later = without.Before(start)
			}
			if by := w.ShutBy(at); later != (by != "") {
				t.Fatalf("%v, %s: at %v it is shut by %q", w, name, at, by)
			}
			if open && i > 0 && start.After(at.Add(-step)) && regular(at.Add(-step)) && !dark(at.Add(-step)) && regular(start.Add(-1)) && !dark(start.Add(-1)) {
				t.Fatalf("%v, %s: at %v the opening began before %v", w, name, at, start)
			}
		}
	}
}

func TestWindowSaysItsBlackout(t *testing.T) {
	for _, c := range []struct{ start, length, blackout, want string }{
		{"Thu 04:00", "1h", "2026-12-23/2027-01-02;2027-04-02", "Thu 04:00 for 1h, except 2026-12-23/2027-01-02; 2027-04-02"},
		{"", "", "2027-04-02/2027-04-02;", "always, except 2027-04-02"},
	} {
		if got := newWindow(t, c.start, c.length, c.blackout, "UTC").String(); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
	if w := newWindow(t, "", "", "", "UTC"); w != nil {
		t.Errorf("a window without anything set: %v", w)
	}
}

func TestBlackoutLongerThanAYearIsWarnedAbout(t *testing.T) {
	for value, warned := range map[string]bool{"2026-12-23/2072-01-02": true, "2027-01-01/2027-12-31": false} {
		c := mustLoad(t, Options{Program: Daemon, Root: newRoot(t, map[string]string{etc: "LOCKSMITHD_BLACKOUT=" + value + "\n"})})
		if got := strings.Join(c.Warnings, "\n"); warned != strings.Contains(got, value+" is longer than a year") {
			t.Errorf("%s: the warnings are %q", value, got)
		}
	}
}

func TestWrongBlackoutsAreRefused(t *testing.T) {
	many := "2026-01-01"
	for i := range maxBlackouts {
		many += ";" + time.Date(2026, 1, 3+2*i, 0, 0, 0, 0, time.UTC).Format(time.DateOnly)
	}
	for value, want := range map[string]string{
		"christmas":                 `"christmas" is not a day or a range of days: write days as in 2026-12-23/2027-01-02; 2027-04-02`,
		"2026-02-30":                `"2026-02-30" is not a day`,
		"2026-12-24 18:00":          `"2026-12-24 18:00" is not a day`,
		"2026-12-24, 2026-12-25":    `is not a day`,
		"2026-12-24;2026-12-25/x":   `"2026-12-25/x" is not a day`,
		"2027-01-02/2026-12-23":     `"2027-01-02/2026-12-23" ends before it begins`,
		"2026-12-24/2026-12-25/x":   `is not a day`,
		";":                         "it names no day",
		many:                        "more than 400 days",
		strings.Repeat("9", 100000): "is not a day",
	} {
		root := newRoot(t, map[string]string{etc: "LOCKSMITHD_BLACKOUT='" + value + "'\n"})
		_, err := Load(Options{Program: Daemon, Root: root})
		if err == nil || !strings.HasPrefix(err.Error(), `LOCKSMITHD_BLACKOUT="`) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "update.conf:1") || len(err.Error()) > 600 {
			t.Errorf("%.30s: %v, want one that says %q", value, err, want)
		}
		if _, err := Load(Options{Program: CLI, Root: root, Check: PartEtcd}); err != nil {
			t.Errorf("%.30s: a command that does not use it: %v", value, err)
		}
	}
}
