package config

import (
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/test/must"
)

// The window of a record opens when the window of the host opens that has written it.
func TestWindowFromTextsIsThatOfTheSettings(t *testing.T) {
	now := time.Date(2027, 3, 27, 12, 0, 0, 0, time.UTC) // the clock goes forward in Berlin that night
	for _, c := range []struct{ start, length, zone, blackout, opens, shuts string }{
		{"04:00", "1h", "", "", "2027-03-28T04:00:00Z", "2027-03-28T05:00:00Z"},
		{"04:00", "1h", "Europe/Berlin", "", "2027-03-28T02:00:00Z", "2027-03-28T03:00:00Z"},
		{"CRON_TZ=Asia/Tokyo 0 4 * * *", "1h", "Europe/Berlin", "", "2027-03-27T19:00:00Z", "2027-03-27T20:00:00Z"},
		{"Sat 04:00", "1h", "UTC", "2027-04-03", "2027-04-10T04:00:00Z", "2027-04-10T05:00:00Z"},
		{"", "", "UTC", "2027-03-27", "2027-03-28T00:00:00Z", ""},
	} {
		w, err := NewWindow(c.start, c.length, c.zone, c.blackout)
		must.Do(t, err)
		opens, shuts := w.Next(now)
		text := func(t time.Time) string {
			if t.IsZero() {
				return ""
			}
			return t.UTC().Format(time.RFC3339)
		}
		if text(opens) != c.opens || text(shuts) != c.shuts {
			t.Errorf("%+v: from %s to %s", c, text(opens), text(shuts))
		}
	}
}

func TestHostileTextsOfAWindowAreRefused(t *testing.T) {
	long := strings.Repeat("* * * * *;", 1000)
	for _, c := range [][4]string{
		{"04:00", "", "", ""}, {"", "1h", "", ""}, {"04:00", "999h", "", ""}, {"04:00", "-1h", "", ""}, {"* * * * *", "61s", "", ""},
		{long, "1s", "", ""}, {"04:00", "1h", "Local", ""}, {"04:00", "1h", "../../../etc/passwd", ""}, {"04:00", "1h", "/etc/passwd", ""},
		{"04:00", "1h", "a\nb\x1b", ""}, {"04:00", "1h", "", ";"}, {"04:00", "1h", "", "0001-01-01/9999-99-99"},
		{"04:00", "1h", "", strings.Repeat("2027-01-01;", 401)},
	} {
		w, err := NewWindow(c[0], c[1], c[2], c[3])
		if err == nil {
			t.Errorf("%.60q is taken for %.60s", c, w)
		} else if strings.ContainsAny(err.Error(), "\n\x1b") || len(err.Error()) > 1000 {
			t.Errorf("%.60q: the error is not a line: %q", c, err)
		}
	}
}
