package window

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// FuzzParse checks that no input makes Parse panic or hang, and that an accepted
// window means the same after String and Parse.
func FuzzParse(f *testing.F) {
	for _, start := range []string{
		"04:00", "Sat 4:00", "Mon,Wed 04:00", "Fri-Mon 02:30", "Mon-Fri 04:00; Sat,Sun 02:00",
		"0 4 * * 1-5", "*/15 2 1,15 jan-mar MON-FRI", "0 0 29 2 *", "0 0 31 2 *", "0 0 13 * 5",
		"CRON_TZ=Europe/Berlin 30 2 * * *", "TZ=UTC 0 4 * * *", "2:00pm", "14:00foo", "4:5", "004:00", "Thu 4:5", "+4:05", "24:00", "@daily", "", ";", "* * * * *",
	} {
		for _, length := range []string{"1h", "23h45m", "30s", "0", "-1h", "167h59m", ""} {
			f.Add(start, length, uint8(len(start)), int64(1774742400))
		}
	}
	var zones []*time.Location
	for _, z := range changingZones {
		zones = append(zones, zone(f, z.name))
	}
	f.Fuzz(func(t *testing.T, start, length string, zone uint8, seconds int64) {
		loc := zones[int(zone)%len(zones)]
		w, err := Parse(start, length, loc)
		// Two whole numbers are a time of day, however they are written, if they can be one.
		if two := regexp.MustCompile(`^([0-9]{1,9}):([0-9]{1,9})$`).FindStringSubmatch(start); two != nil && length == "1h" {
			hour, _ := strconv.Atoi(two[1])
			minute, _ := strconv.Atoi(two[2])
			if possible := hour < 24 && minute < 60; possible != (err == nil) || possible && w.String() != fmt.Sprintf("%02d:%02d for 1h", hour, minute) {
				t.Fatalf("%q is %v, %v", start, w, err)
			}
		}
		if err != nil {
			if strings.TrimSpace(err.Error()) == "" || strings.ContainsAny(err.Error(), "\n\x00") {
				t.Fatalf("Parse(%q, %q): the error is not one line of text: %q", start, length, err)
			}
			return
		}
		text := w.String()
		s, l, ok := strings.Cut(text, " for ")
		if !ok {
			t.Fatalf("%q has no parts", text)
		}
		again, err := Parse(s, l, loc)
		if err != nil {
			t.Fatalf("%q is accepted, but its canonical form is not: %v", start, err)
		}
		if again.String() != text {
			t.Fatalf("%q becomes %q when read again", text, again)
		}

		const year = 366 * 24 * 60 * 60
		at := time.Unix(seconds%(300*year), 0) // 1670 to 2270
		for range 5 {
			start, end := w.Next(at)
			if s, e := again.Next(at); !s.Equal(start) || !e.Equal(end) {
				t.Fatalf("%q at %s: %s to %s, read again %s to %s", text, at, start, end, s, e)
			}
			if !start.Before(end) || !end.After(at) {
				t.Fatalf("%q at %s: opening from %s to %s", text, at, start, end)
			}
			if w.Open(at) != !start.After(at) || !w.Open(start) || !w.Open(end.Add(-1)) || w.Open(end) || w.Open(start.Add(-1)) {
				t.Fatalf("%q at %s: Open contradicts the opening from %s to %s", text, at, start, end)
			}
			if s, e := w.Next(start); !s.Equal(start) || !e.Equal(end) {
				t.Fatalf("%q at its start %s: %s to %s", text, start, s, e)
			}
			at = end
		}
	})
}
