package window

import (
	"testing"
	"time"
)

// openings returns the next n openings after t, in the layout below.
func openings(w *Window, t time.Time, n int) [][2]string {
	const layout = "Mon 2006-01-02 15:04:05 -07:00"
	var list [][2]string
	for range n {
		start, end := w.Next(t)
		list = append(list, [2]string{start.Format(layout), end.Format(layout)})
		t = end
	}
	return list
}

func TestOpeningsOfAWindow(t *testing.T) {
	type span = [2]string
	for _, test := range []struct {
		name                      string
		start, length, zone, from string // from in UTC
		want                      []span
	}{
		{
			"every day", "4:00", "1h", "UTC", "2026-03-02 12:00",
			[]span{
				{"Tue 2026-03-03 04:00:00 +00:00", "Tue 2026-03-03 05:00:00 +00:00"},
				{"Wed 2026-03-04 04:00:00 +00:00", "Wed 2026-03-04 05:00:00 +00:00"},
			},
		}, {
			"past midnight", "23:30", "2h", "UTC", "2026-03-03 00:15",
			[]span{
				{"Mon 2026-03-02 23:30:00 +00:00", "Tue 2026-03-03 01:30:00 +00:00"},
				{"Tue 2026-03-03 23:30:00 +00:00", "Wed 2026-03-04 01:30:00 +00:00"},
			},
		}, {
			"past the end of the week", "Sat 22:00", "30h", "UTC", "2026-03-08 23:00",
			[]span{
				{"Sat 2026-03-07 22:00:00 +00:00", "Mon 2026-03-09 04:00:00 +00:00"},
				{"Sat 2026-03-14 22:00:00 +00:00", "Mon 2026-03-16 04:00:00 +00:00"},
			},
		}, {
			"nearly the whole week", "Wed 12:00", "167h", "UTC", "2026-03-04 11:30",
			[]span{{"Wed 2026-03-04 12:00:00 +00:00", "Wed 2026-03-11 11:00:00 +00:00"}},
		}, {
			"on a range of days past the end of the week", "Sat-Mon 04:00", "1h", "UTC", "2026-03-05 00:00",
			[]span{
				{"Sat 2026-03-07 04:00:00 +00:00", "Sat 2026-03-07 05:00:00 +00:00"},
				{"Sun 2026-03-08 04:00:00 +00:00", "Sun 2026-03-08 05:00:00 +00:00"},
				{"Mon 2026-03-09 04:00:00 +00:00", "Mon 2026-03-09 05:00:00 +00:00"},
				{"Sat 2026-03-14 04:00:00 +00:00", "Sat 2026-03-14 05:00:00 +00:00"},
			},
		}, {
			"with several starts", "Mon-Fri 04:00; Sat,Sun 02:00", "1h30m", "UTC", "2026-03-06 04:30",
			[]span{
				{"Fri 2026-03-06 04:00:00 +00:00", "Fri 2026-03-06 05:30:00 +00:00"},
				{"Sat 2026-03-07 02:00:00 +00:00", "Sat 2026-03-07 03:30:00 +00:00"},
				{"Sun 2026-03-08 02:00:00 +00:00", "Sun 2026-03-08 03:30:00 +00:00"},
				{"Mon 2026-03-09 04:00:00 +00:00", "Mon 2026-03-09 05:30:00 +00:00"},
			},
		}, {
			"of a cron expression", "0 4 * * 1-5", "1h", "UTC", "2026-03-06 12:00",
			[]span{{"Mon 2026-03-09 04:00:00 +00:00", "Mon 2026-03-09 05:00:00 +00:00"}},
		}, {
			"of a cron expression with day of month or day of week", "0 4 13 * FRI", "1h", "UTC", "2026-04-10 12:00",
			[]span{
				{"Mon 2026-04-13 04:00:00 +00:00", "Mon 2026-04-13 05:00:00 +00:00"},
				{"Fri 2026-04-17 04:00:00 +00:00", "Fri 2026-04-17 05:00:00 +00:00"},
			},
		}, {
			"in the zone of CRON_TZ", "CRON_TZ=Asia/Kolkata 0 4 * * *", "1h", "America/New_York", "2026-03-06 12:00",
			[]span{{"Sat 2026-03-07 04:00:00 +05:30", "Sat 2026-03-07 05:00:00 +05:30"}},
		}, {
			"in leap years", "0 0 29 2 *", "1h", "UTC", "2026-01-01 00:00",
			[]span{
				{"Tue 2028-02-29 00:00:00 +00:00", "Tue 2028-02-29 01:00:00 +00:00"},
				{"Sun 2032-02-29 00:00:00 +00:00", "Sun 2032-02-29 01:00:00 +00:00"},
			},
		}, {
			"in leap years around 2100, which is not one", "0 0 29 2 *", "35063h", "UTC", "2096-02-28 23:30",
			[]span{
				{"Wed 2096-02-29 00:00:00 +00:00", "Sun 2100-02-28 23:00:00 +00:00"},
				{"Fri 2104-02-29 00:00:00 +00:00", "Tue 2108-02-28 23:00:00 +00:00"},
			},
		},

		// A start in the gap opens when the gap ends.
		{
			"start in the gap, north", "02:30", "1h", "Europe/Berlin", "2026-03-28 12:00",
			[]span{
				{"Sun 2026-03-29 03:00:00 +02:00", "Sun 2026-03-29 04:00:00 +02:00"},
				{"Mon 2026-03-30 02:30:00 +02:00", "Mon 2026-03-30 03:30:00 +02:00"},
			},
		}, {
			"cron start in the gap, north", "30 2 * * *", "1h", "Europe/Berlin", "2026-03-28 12:00",
			[]span{
				{"Sun 2026-03-29 03:00:00 +02:00", "Sun 2026-03-29 04:00:00 +02:00"},
				{"Mon 2026-03-30 02:30:00 +02:00", "Mon 2026-03-30 03:30:00 +02:00"},
			},
		}, {
			"cron start in the gap of CRON_TZ", "CRON_TZ=Europe/Berlin 30 2 * * *", "1h", "UTC", "2026-03-28 12:00",
			[]span{{"Sun 2026-03-29 03:00:00 +02:00", "Sun 2026-03-29 04:00:00 +02:00"}},
		}, {
			"weekly start in the gap, America", "Sun 02:00", "1h", "America/New_York", "2026-03-07 12:00",
			[]span{
				{"Sun 2026-03-08 03:00:00 -04:00", "Sun 2026-03-08 04:00:00 -04:00"},
				{"Sun 2026-03-15 02:00:00 -04:00", "Sun 2026-03-15 03:00:00 -04:00"},
			},
		}, {
			"start at the end of the gap", "03:00", "1h", "America/New_York", "2026-03-08 01:00",
			[]span{{"Sun 2026-03-08 03:00:00 -04:00", "Sun 2026-03-08 04:00:00 -04:00"}},
		}, {
			"start before the gap is open for its length in elapsed time", "01:30", "1h", "Europe/Berlin", "2026-03-28 12:00",
			[]span{{"Sun 2026-03-29 01:30:00 +01:00", "Sun 2026-03-29 03:30:00 +02:00"}},
		}, {
			"start at a midnight that does not exist, Cairo", "Fri 00:00", "1h", "Africa/Cairo", "2026-04-23 12:00",
			[]span{{"Fri 2026-04-24 01:00:00 +03:00", "Fri 2026-04-24 02:00:00 +03:00"}},
		}, {
			"cron start on a day without a midnight, Sao Paulo", "30 0 4 11 *", "1h", "America/Sao_Paulo", "2018-11-03 12:00",
			[]span{{"Sun 2018-11-04 01:00:00 -02:00", "Sun 2018-11-04 02:00:00 -02:00"}},
		}, {
			"cron start later on a day without a midnight, Asuncion", "0 4 * * SUN", "1h", "America/Asuncion", "2023-09-30 12:00",
			[]span{{"Sun 2023-10-01 04:00:00 -03:00", "Sun 2023-10-01 05:00:00 -03:00"}},
		}, {
			"start in a gap of half an hour", "02:15", "1h", "Australia/Lord_Howe", "2026-10-03 12:00",
			[]span{
				{"Sun 2026-10-04 02:30:00 +11:00", "Sun 2026-10-04 03:30:00 +11:00"},
				{"Mon 2026-10-05 02:15:00 +11:00", "Mon 2026-10-05 03:15:00 +11:00"},
			},
		}, {
			"start after a gap of half an hour", "02:45", "1h", "Australia/Lord_Howe", "2026-10-03 12:00",
			[]span{{"Sun 2026-10-04 02:45:00 +11:00", "Sun 2026-10-04 03:45:00 +11:00"}},
		}, {
			"start in the gap, south", "02:30", "1h", "Australia/Sydney", "2026-10-03 12:00",
			[]span{{"Sun 2026-10-04 03:00:00 +11:00", "Sun 2026-10-04 04:00:00 +11:00"}},
		}, {
			"start in the gap, winter time called summer time", "Sun 01:30", "1h", "Europe/Dublin", "2026-03-28 12:00",
			[]span{{"Sun 2026-03-29 02:00:00 +01:00", "Sun 2026-03-29 03:00:00 +01:00"}},
		}, {
			"start on a day that does not exist", "Fri 04:00", "1h", "Pacific/Apia", "2011-12-29 12:00",
			[]span{
				{"Sat 2011-12-31 00:00:00 +14:00", "Sat 2011-12-31 01:00:00 +14:00"},
				{"Fri 2012-01-06 04:00:00 +14:00", "Fri 2012-01-06 05:00:00 +14:00"},
			},
		}, {
			"many starts in the gap are one", "*/15 * * * *", "5m", "Europe/Berlin", "2026-03-29 00:45",
			[]span{
				{"Sun 2026-03-29 01:45:00 +01:00", "Sun 2026-03-29 01:50:00 +01:00"},
				{"Sun 2026-03-29 03:00:00 +02:00", "Sun 2026-03-29 03:05:00 +02:00"},
				{"Sun 2026-03-29 03:15:00 +02:00", "Sun 2026-03-29 03:20:00 +02:00"},
			},
		}, {
			"starts in the gap and soon after it run together", "02:45; 03:10", "20m", "Europe/Berlin", "2026-03-29 00:00",
			[]span{
				{"Sun 2026-03-29 03:00:00 +02:00", "Sun 2026-03-29 03:30:00 +02:00"},
				{"Mon 2026-03-30 02:45:00 +02:00", "Mon 2026-03-30 03:05:00 +02:00"},
			},
		}, {
			"starts before and in the gap that touch are one", "01:30; 02:45", "30m", "Europe/Berlin", "2026-03-29 00:00",
			[]span{{"Sun 2026-03-29 01:30:00 +01:00", "Sun 2026-03-29 03:30:00 +02:00"}},
		}, {
			"long openings run together over the gap", "02:30", "23h45m", "Europe/Berlin", "2026-03-27 02:00",
			[]span{
				{"Fri 2026-03-27 02:30:00 +01:00", "Sat 2026-03-28 02:15:00 +01:00"},
				{"Sat 2026-03-28 02:30:00 +01:00", "Tue 2026-03-31 02:15:00 +02:00"},
				{"Tue 2026-03-31 02:30:00 +02:00", "Wed 2026-04-01 02:15:00 +02:00"},
			},
		}, {
			"long weekly openings run together over the gap", "Tue 12:00", "167h30m", "America/New_York", "2026-03-01 00:00",
			[]span{
				{"Tue 2026-02-24 12:00:00 -05:00", "Tue 2026-03-03 11:30:00 -05:00"},
				{"Tue 2026-03-03 12:00:00 -05:00", "Tue 2026-03-17 11:30:00 -04:00"},
			},
		},

		// A start in the fold opens once, at its first occurrence.
		{
			"start in the fold, north", "02:30", "15m", "Europe/Berlin", "2026-10-24 12:00",
			[]span{
				{"Sun 2026-10-25 02:30:00 +02:00", "Sun 2026-10-25 02:45:00 +02:00"},
				{"Mon 2026-10-26 02:30:00 +01:00", "Mon 2026-10-26 02:45:00 +01:00"},
			},
		}, {
			"cron start in the fold, America", "30 1 * * *", "15m", "America/New_York", "2026-10-31 12:00",
			[]span{
				{"Sun 2026-11-01 01:30:00 -04:00", "Sun 2026-11-01 01:45:00 -04:00"},
				{"Mon 2026-11-02 01:30:00 -05:00", "Mon 2026-11-02 01:45:00 -05:00"},
			},
		}, {
			"cron starts every hour in the fold", "0 * * * *", "15m", "America/New_York", "2026-11-01 05:30",
			[]span{
				{"Sun 2026-11-01 02:00:00 -05:00", "Sun 2026-11-01 02:15:00 -05:00"},
				{"Sun 2026-11-01 03:00:00 -05:00", "Sun 2026-11-01 03:15:00 -05:00"},
			},
		}, {
			"start in the fold, midnight, Cairo", "Thu 23:30", "1h", "Africa/Cairo", "2026-10-29 12:00",
			[]span{{"Thu 2026-10-29 23:30:00 +03:00", "Thu 2026-10-29 23:30:00 +02:00"}},
		}, {
			"start in a fold of half an hour", "01:45", "20m", "Australia/Lord_Howe", "2026-04-04 12:00",
			[]span{
				{"Sun 2026-04-05 01:45:00 +11:00", "Sun 2026-04-05 01:35:00 +10:30"},
				{"Mon 2026-04-06 01:45:00 +10:30", "Mon 2026-04-06 02:05:00 +10:30"},
			},
		}, {
			"start in the fold, south", "02:30", "1h", "America/Santiago", "2026-04-04 00:00",
			[]span{{"Sat 2026-04-04 02:30:00 -03:00", "Sat 2026-04-04 03:30:00 -03:00"}},
		}, {
			"start in the fold, south, midnight", "23:15", "1h", "America/Santiago", "2026-04-04 12:00",
			[]span{
				{"Sat 2026-04-04 23:15:00 -03:00", "Sat 2026-04-04 23:15:00 -04:00"},
				{"Sun 2026-04-05 23:15:00 -04:00", "Mon 2026-04-06 00:15:00 -04:00"},
			},
		}, {
			"start at the end of the fold", "03:00", "1h", "Europe/Berlin", "2026-10-24 12:00",
			[]span{{"Sun 2026-10-25 03:00:00 +01:00", "Sun 2026-10-25 04:00:00 +01:00"}},
		}, {
			"long openings do not stretch over the fold", "02:30", "23h45m", "Europe/Berlin", "2026-10-24 12:00",
			[]span{
				{"Sat 2026-10-24 02:30:00 +02:00", "Sun 2026-10-25 02:15:00 +02:00"},
				{"Sun 2026-10-25 02:30:00 +02:00", "Mon 2026-10-26 01:15:00 +01:00"},
				{"Mon 2026-10-26 02:30:00 +01:00", "Tue 2026-10-27 02:15:00 +01:00"},
			},
		},

		// Offsets far from UTC, and years for which a zone has only rules.
		{
			"far east of UTC", "Sat 04:00", "1h", "Pacific/Kiritimati", "2026-03-06 00:00",
			[]span{{"Sat 2026-03-07 04:00:00 +14:00", "Sat 2026-03-07 05:00:00 +14:00"}},
		}, {
			"far west of UTC", "Sat 04:00", "1h", "Pacific/Niue", "2026-03-06 00:00",
			[]span{{"Sat 2026-03-07 04:00:00 -11:00", "Sat 2026-03-07 05:00:00 -11:00"}},
		}, {
			"on the last day of leap years", "0 4 31 12 *", "1h", "Europe/Berlin", "2040-12-31 00:00",
			[]span{
				{"Mon 2040-12-31 04:00:00 +01:00", "Mon 2040-12-31 05:00:00 +01:00"},
				{"Tue 2041-12-31 04:00:00 +01:00", "Tue 2041-12-31 05:00:00 +01:00"},
			},
		}, {
			"on the first day after leap years", "0 4 1 1 *", "1h", "America/Santiago", "2040-12-31 12:00",
			[]span{{"Tue 2041-01-01 04:00:00 -03:00", "Tue 2041-01-01 05:00:00 -03:00"}},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := parse(t, test.start, test.length, zone(t, test.zone))
			from, err := time.Parse("2006-01-02 15:04", test.from)
			if err != nil {
				t.Fatal(err)
			}
			for i, got := range openings(w, from, len(test.want)) {
				if got != test.want[i] {
					t.Errorf("opening %d:\n got %v\nwant %v", i, got, test.want[i])
				}
			}
		})
	}
}

func TestOpenTakesTheStartAndLeavesTheEndOut(t *testing.T) {
	berlin := zone(t, "Europe/Berlin")
	for _, test := range []struct {
		name, start, length string
		at                  time.Time
		want                bool
	}{
		{"before", "04:00", "1h", time.Date(2026, 3, 2, 3, 59, 59, 999999999, berlin), false},
		{"at the start", "04:00", "1h", time.Date(2026, 3, 2, 4, 0, 0, 0, berlin), true},
		{"inside", "04:00", "1h", time.Date(2026, 3, 2, 4, 30, 0, 0, berlin), true},
		{"just before the end", "04:00", "1h", time.Date(2026, 3, 2, 4, 59, 59, 999999999, berlin), true},
		{"at the end", "04:00", "1h", time.Date(2026, 3, 2, 5, 0, 0, 0, berlin), false},
		{"asked in another zone", "04:00", "1h", time.Date(2026, 3, 2, 3, 30, 0, 0, time.UTC), true},
		{"on another day", "Sat 04:00", "1h", time.Date(2026, 3, 2, 4, 30, 0, 0, berlin), false},
		{"the last second before the gap", "02:30", "1h", time.Date(2026, 3, 29, 0, 59, 59, 0, time.UTC), false},
		{"the first second after the gap", "02:30", "1h", time.Date(2026, 3, 29, 1, 0, 0, 0, time.UTC), true},
		{"the first showing of the fold", "02:30", "15m", time.Date(2026, 10, 25, 0, 35, 0, 0, time.UTC), true},
		{"the second showing of the fold", "02:30", "15m", time.Date(2026, 10, 25, 1, 35, 0, 0, time.UTC), false},
		{"where two openings run together", "02:30", "23h45m", time.Date(2026, 3, 29, 1, 10, 0, 0, time.UTC), true},
		{"where two openings touch", "01:30; 02:45", "30m", time.Date(2026, 3, 29, 1, 0, 0, 0, time.UTC), true},
		{"a nanosecond long, inside", "04:00", "1ns", time.Date(2026, 3, 2, 4, 0, 0, 0, berlin), true},
		{"a nanosecond long, at its end", "04:00", "1ns", time.Date(2026, 3, 2, 4, 0, 0, 1, berlin), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := parse(t, test.start, test.length, berlin)
			if got := w.Open(test.at); got != test.want {
				t.Errorf("%q open at %s: %t, want %t", w, test.at.In(berlin), got, test.want)
			}
		})
	}
}

// Next returns the same opening for every instant inside it, also if several
// openings have run together.
func TestNextIsTheSameFromEveryInstantOfAnOpening(t *testing.T) {
	w := parse(t, "02:30", "23h45m", zone(t, "Europe/Berlin"))
	start, end := w.Next(time.Date(2026, 3, 29, 0, 0, 0, 0, time.UTC))
	if got, want := end.Sub(start), 3*24*time.Hour-time.Hour-15*time.Minute; got != want {
		t.Fatalf("the opening from %s lasts %s, want %s", start, got, want)
	}
	for at := start; at.Before(end); at = at.Add(time.Minute) {
		if s, e := w.Next(at); !s.Equal(start) || !e.Equal(end) {
			t.Fatalf("at %s the opening is %s to %s, want %s to %s", at, s, e, start, end)
		}
	}
}
