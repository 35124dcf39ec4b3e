package window

import (
	"errors"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the tests do not depend on the machine's zones
)

func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

func parse(t testing.TB, start, length string, loc *time.Location) *Window {
	t.Helper()
	w, err := Parse(start, length, loc)
	if err != nil {
		t.Fatalf("Parse(%q, %q): %v", start, length, err)
	}
	return w
}

func TestParseTellsTheShapesApartAndWritesThemOneWay(t *testing.T) {
	for _, test := range []struct{ start, length, want string }{
		// The contract's syntax.
		{"04:00", "1h", "04:00 for 1h"},
		{"4:00", "1h", "04:00 for 1h"},
		{"1:00", "60m", "01:00 for 1h"},
		{"01:00", "1h0m0s", "01:00 for 1h"},
		{"0:00", "1h30m", "00:00 for 1h30m"},
		{"4:5", "1h", "04:05 for 1h"},
		{"Thu 4:5", "1h", "Thu 04:05 for 1h"},
		{"004:00", "1h", "04:00 for 1h"},
		{"0:0", "1h", "00:00 for 1h"},
		{"0023:0059", "1h", "23:59 for 1h"},
		{"23:59", "23h59m", "23:59 for 23h59m"},
		{"Thu 04:00", "1h", "Thu 04:00 for 1h"},
		{"thu 4:00", "1h", "Thu 04:00 for 1h"},
		{"SUN 23:30", "167h59m59s", "Sun 23:30 for 167h59m59s"},
		{"  Sat \t 04:00 ", " 30m ", "Sat 04:00 for 30m"},
		{"04:00", "1.5h", "04:00 for 1h30m"},
		{"04:00", "30s", "04:00 for 30s"},
		{"04:00", "1ns", "04:00 for 1ns"},
		{"04:00", "10m0.5s", "04:00 for 10m0.5s"},
		{"04:00", "20h", "04:00 for 20h"},
		// Several days.
		{"Mon,Wed 04:00", "1h", "Mon,Wed 04:00 for 1h"},
		{"wed, mon , Wednesday 04:00", "1h", "Mon,Wed 04:00 for 1h"},
		{"Monday 04:00", "1h", "Mon 04:00 for 1h"},
		{"Mon-Fri 04:00", "1h", "Mon-Fri 04:00 for 1h"},
		{"monday - FRIDAY 04:00", "1h", "Mon-Fri 04:00 for 1h"},
		{"Fri-Mon 04:00", "1h", "Mon,Fri-Sun 04:00 for 1h"},
		{"Sat-Sun 04:00", "1h", "Sat,Sun 04:00 for 1h"},
		{"Mon,Wed-Fri,Sun 04:00", "1h", "Mon,Wed-Fri,Sun 04:00 for 1h"},
		{"Sun-Sat 04:00", "1h", "04:00 for 1h"},
		{"Tue-Mon 04:00", "1h", "04:00 for 1h"},
		{"Tue-Tue 04:00", "1h", "Tue 04:00 for 1h"},
		// Several starts.
		{"Mon-Fri 04:00; Sat,Sun 02:00", "1h30m", "Mon-Fri 04:00; Sat,Sun 02:00 for 1h30m"},
		{"4:00;12:00;04:00", "1h", "04:00; 12:00 for 1h"},
		{"0 4 * * 1-5; Sat 02:00", "1h", "0 4 * * 1-5; Sat 02:00 for 1h"},
		// Cron.
		{"0 4 * * 1-5", "1h", "0 4 * * 1-5 for 1h"},
		{" 0\t4  * * 1-5 ", "1h", "0 4 * * 1-5 for 1h"},
		{"*/30 2-5/2,8 1,15 JAN-mar mon-fri", "10m", "*/30 2-5/2,8 1,15 JAN-mar mon-fri for 10m"},
		{"0 0 29 2 *", "1h", "0 0 29 2 * for 1h"},
		{"0 0 31 2 1", "1h", "0 0 31 2 1 for 1h"}, // the Mondays of February
		{"0 4 ? * 6", "1h", "0 4 ? * 6 for 1h"},
		{"* * * * *", "59s", "* * * * * for 59s"},
		{"CRON_TZ=Europe/Berlin 0 4 * * 1-5", "1h", "CRON_TZ=Europe/Berlin 0 4 * * 1-5 for 1h"},
		{"CRON_TZ=UTC\t0 4 * * *", "1h", "CRON_TZ=UTC 0 4 * * * for 1h"},
		{"CRON_TZ=Asia/Tokyo Sat 04:00; Sun 05:00", "1h", "CRON_TZ=Asia/Tokyo Sat 04:00; Sun 05:00 for 1h"},
	} {
		w, err := Parse(test.start, test.length, time.UTC)
		if err != nil {
			t.Errorf("Parse(%q, %q): %v", test.start, test.length, err)
			continue
		}
		if got := w.String(); got != test.want {
			t.Errorf("Parse(%q, %q) is %q, want %q", test.start, test.length, got, test.want)
		}
		start, length, _ := strings.Cut(w.String(), " for ")
		if again := parse(t, start, length, time.UTC); again.String() != test.want {
			t.Errorf("Parse(%q, %q) is %q, want %q", start, length, again, test.want)
		}
	}
}

// Refused are values that 0.7 misread, or accepted although they could not
// work, and all others without a clear meaning.
func TestStartThatIsMalformedIsRefused(t *testing.T) {
	const (
		clock = "write 24-hour HH:MM, such as 04:00 or 14:00"
		day   = "write Sun, Mon, Tue, Wed, Thu, Fri or Sat, and several as Mon,Wed or Mon-Fri"
		cron  = "write minute, hour, day of month, month and day of week, such as 0 4 * * 1-5 with 0 for Sunday"
		after = "write [DAY] HH:MM, such as Sat 04:00, and ; between several starts"
		none  = "write [DAY] HH:MM, such as Sat 04:00, or a cron expression, such as 0 4 * * 6"
		semi  = `write one such as "Mon-Fri 04:00; Sat,Sun 02:00", or leave the ";" out`
		tz    = "write CRON_TZ=Zone once, before the first start, such as CRON_TZ=Europe/Berlin 0 4 * * 1-5"
		iana  = "write an IANA name that this host knows, such as Europe/Berlin"
	)
	for _, test := range []struct{ start, wrong, right string }{
		{"", "a window needs a start", `write one such as "04:00" or "Sat 04:00"`},
		{" \t", "a window needs a start", `write one such as "04:00" or "Sat 04:00"`},
		{"2:00pm", `"2:00pm" is not a time of day`, clock},
		{"2:00 pm", `"2:00 pm" goes on after the time of day`, after},
		{"14:00foo", `"14:00foo" is not a time of day`, clock},
		{"Sat 14:00foo", `"14:00foo" is not a time of day`, clock},
		{"14:00 foo", `"14:00 foo" goes on after the time of day`, after},
		{"04:00 Sat", `"04:00 Sat" goes on after the time of day`, after},
		{"04:00 05:00", `"04:00" is not a day of the week`, day},
		{"24:00", `"24:00" is not a time of day`, clock},
		{"12:60", `"12:60" is not a time of day`, clock},
		{"024:00", `"024:00" is not a time of day`, clock},
		{"4:060", `"4:060" is not a time of day`, clock},
		{"99999999999999999999:00", `"99999999999999999999:00" is not a time of day`, clock},
		{"4:", `"4:" is not a time of day`, clock},
		{":5", `":5" is not a time of day`, clock},
		{"4:-5", `"4:-5" is not a time of day`, clock},
		{"4:5pm", `"4:5pm" is not a time of day`, clock},
		{"4:5 Thu", `"4:5 Thu" goes on after the time of day`, after},
		{"-1:00", `"-1:00" is not a time of day`, clock},
		{"+1:00", `"+1:00" is not a time of day`, clock},
		{"04:00:00", `"04:00:00" is not a time of day`, clock},
		{":", `":" is not a time of day`, clock},
		{"٠٤:٠٠", `"٠٤:٠٠" is not a time of day`, clock},
		{"04:00\x00", `"04:00\x00" is not a time of day`, clock},
		{`"04:00"`, `"\"04:00\"" is not a time of day`, clock},
		{"Foo 04:00", `"Foo" is not a day of the week`, day},
		{"Thurs 04:00", `"Thurs" is not a day of the week`, day},
		{"Mon Fri 04:00", `"Mon Fri" is not a day of the week`, day},
		{"Mon, 04:00", `"" is not a day of the week`, day},
		{"Mon- 04:00", `"" is not a day of the week`, day},
		{"Mon-Wed-Fri 04:00", `"Wed-Fri" is not a day of the week`, day},
		{"1 04:00", `"1" is not a day of the week`, day},
		{"Sat", `"Sat" has no time of day`, none},
		{"Sat 4", `"Sat 4" has no time of day`, none},
		{"@daily", `"@daily" has no time of day`, none},
		{"@every 1h", `"@every 1h" has no time of day`, none},
		{"04:00;", `there is no start before or after a ";"`, semi},
		{";04:00", `there is no start before or after a ";"`, semi},
		{"04:00; ;05:00", `there is no start before or after a ";"`, semi},
		{"04:00; 2:00pm", `"2:00pm" is not a time of day`, clock},
		{"0 4 * *", `"0 4 * *" has 4 fields where a cron expression has five`, cron},
		{"0 0 4 * * 1", `"0 0 4 * * 1" has 6 fields where a cron expression has five`, cron},
		{"0 24 * * *", `parse cron expression "0 24 * * *"`, cron},
		{"60 4 * * *", `parse cron expression "60 4 * * *"`, cron},
		{"0 4 * * 7", `parse cron expression "0 4 * * 7"`, cron},
		{"0 4 0 * *", `parse cron expression "0 4 0 * *"`, cron},
		{"0 4 * 13 *", `parse cron expression "0 4 * 13 *"`, cron},
		{"0 4 * * 5-1", `parse cron expression "0 4 * * 5-1"`, cron},
		{"*/0 4 * * *", `parse cron expression "*/0 4 * * *"`, cron},
		{"0 4 * * foo", `parse cron expression "0 4 * * foo"`, cron},
		{"0 99999999999999999999 * * *", `parse cron expression "0 99999999999999999999 * * *"`, cron},
		{"0 4 * * 1,", `"1," in "0 4 * * 1," is not a field`, cron},
		{", 4 * * *", `"," in ", 4 * * *" is not a field`, cron},
		{"0 4 *-foo * *", `"*-foo" in "0 4 *-foo * *" is not a field`, cron},
		{"0 +4 * * *", `"+4" in "0 +4 * * *" is not a field`, cron},
		{"0 4 1-2-3 * *", `"1-2-3" in "0 4 1-2-3 * *" is not a field`, cron},
		{"0 4 * * 1#2", `"1#2" in "0 4 * * 1#2" is not a field`, cron},
		{"0 0 31 2 *", `"0 0 31 2 *" never opens`, "write a day that one of its months has, such as 0 4 28 2 *"},
		{"0 0 30,31 2 *", `"0 0 30,31 2 *" never opens`, "write a day that one of its months has, such as 0 4 28 2 *"},
		{"04:00; 0 0 31 4,6,9,11 *", `"0 0 31 4,6,9,11 *" never opens`, "write a day that one of its months has, such as 0 4 28 2 *"},
		{"CRON_TZ=Europe/Berln 0 4 * * *", `load time zone "Europe/Berln"`, iana},
		{"CRON_TZ=../../etc/passwd 0 4 * * *", `"../../etc/passwd" is not a time zone`, iana},
		{"CRON_TZ= 0 4 * * *", `"" is not a time zone`, iana},
		{"CRON_TZ=Local 0 4 * * *", `"Local" is not a time zone`, iana},
		{"CRON_TZ=/etc/localtime 0 4 * * *", `"/etc/localtime" is not a time zone`, iana},
		{"CRON_TZ=Europe 0 4 * * *", `load time zone "Europe"`, iana},
		{"CRON_TZ=UTC\x00 0 4 * * *", `"UTC\x00" is not a time zone`, iana},
		{"CRON_TZ=UTC", `"CRON_TZ=UTC" has a time zone where none can be`, tz},
		{"CRON_TZ=UTC ", `"CRON_TZ=UTC" has a time zone where none can be`, tz},
		{"TZ=UTC 0 4 * * *", `"TZ=UTC 0 4 * * *" has a time zone where none can be`, tz},
		{"CRON_TZ=UTC TZ=UTC 0 4 * * *", `"TZ=UTC 0 4 * * *" has a time zone where none can be`, tz},
		{"0 4 * * 1; CRON_TZ=UTC 0 4 * * 2", "has a time zone where none can be", tz},
		{"0 4 * * 1 CRON_TZ=UTC", "has a time zone where none can be", tz},
	} {
		w, err := Parse(test.start, "1h", time.UTC)
		if err == nil {
			t.Errorf("Parse(%q) is %q, want an error", test.start, w)
			continue
		}
		if got := err.Error(); !strings.HasPrefix(got, test.wrong) && !strings.Contains(got, "\" "+test.wrong) || !strings.HasSuffix(got, ": "+test.right) {
			t.Errorf("Parse(%q):\n got %s\nwant %s ...: %s", test.start, got, test.wrong, test.right)
		}
		if length := new(LengthError); errors.As(err, &length) {
			t.Errorf("Parse(%q): the error is about the length: %v", test.start, err)
		}
	}
}

func TestLengthThatIsMalformedOrOverlapsTheNextStartIsRefused(t *testing.T) {
	const (
		right = "write one such as 30m or 1h30m"
		units = "write numbers with their units, such as 30m or 1h30m"
	)
	for _, test := range []struct{ start, length, want string }{
		{"04:00", "", `a window needs a length: write one such as "1h"`},
		{"04:00", "0", "a length of 0s is not above zero: " + right},
		{"04:00", "0h", "a length of 0s is not above zero: " + right},
		{"04:00", "-1h", "a length of -1h is not above zero: " + right},
		{"04:00", "90", `"90" is not a length: ` + units},
		{"04:00", "1 h", `"1 h" is not a length: ` + units},
		{"04:00", "1h foo", `"1h foo" is not a length: ` + units},
		{"04:00", "1d", `"1d" is not a length: ` + units},
		{"04:00", "9999999999h", `"9999999999h" is not a length: ` + units},
		{"04:00", "24h", "a window 24h long is still open at its next start, which can be 24h after the one before: write less than 24h"},
		{"04:00", "1000h", "a window 1000h long is still open at its next start, which can be 24h after the one before: write less than 24h"},
		{"Mon 04:00", "168h", "which can be 168h after the one before: write less than 168h"},
		{"Mon,Tue 04:00", "24h", "write less than 24h"},
		{"Mon,Wed 04:00", "48h", "write less than 48h"},
		{"Fri-Mon 04:00", "30h", "write less than 24h"},
		{"Mon-Fri 04:00; Sat,Sun 02:00", "22h", "write less than 22h"},
		{"Mon 04:00; Mon 04:30", "30m", "write less than 30m"},
		{"Sun 23:00; Mon 00:30", "2h", "write less than 1h30m"},
		{"0 4 * * *", "24h", "write less than 24h"},
		{"0 4 * * 1-5", "24h", "write less than 24h"},
		{"* * * * *", "1m", "write less than 1m"},
		{"*/7 * * * *", "4m", "write less than 4m"}, // minute 56, then minute 0
		{"0 0 29 2 *", "35064h", "write less than 35064h"},
		{"0 0 1,31 * *", "24h", "write less than 24h"},
		{"0 0 28 2 *; 0 0 1 3 *", "24h", "write less than 24h"},
		{"0 0 13 * 5", "24h", "write less than 24h"},
		{"0 4 31 12 *; 0 2 1 1 *", "22h", "write less than 22h"},
	} {
		w, err := Parse(test.start, test.length, time.UTC)
		if err == nil {
			t.Errorf("Parse(%q, %q) is %q, want an error", test.start, test.length, w)
			continue
		}
		if !strings.HasSuffix(err.Error(), test.want) {
			t.Errorf("Parse(%q, %q):\n got %v\nwant %s", test.start, test.length, err, test.want)
		}
		if length := new(LengthError); !errors.As(err, &length) {
			t.Errorf("Parse(%q, %q): %T is not a LengthError", test.start, test.length, err)
		}
	}
}

// The lengths that the messages above recommend are accepted.
func TestLengthJustBelowTheDistanceOfTwoStartsIsAccepted(t *testing.T) {
	for _, test := range []struct{ start, length string }{
		{"04:00", "23h59m59.999999999s"},
		{"Mon 04:00", "167h59m59.999999999s"},
		{"Mon,Wed 04:00", "47h59m"},
		{"Mon-Fri 04:00; Sat,Sun 02:00", "21h59m"},
		{"*/7 * * * *", "3m59s"},
		{"0 0 29 2 *", "35063h"},
		{"0 0 29 2 *; 0 0 1 1 *", "1415h"}, // 1 January to 29 February: 59 days
	} {
		parse(t, test.start, test.length, time.UTC)
	}
}

func TestTooManyStartsAreRefused(t *testing.T) {
	var starts []string
	for i := range maxStarts {
		starts = append(starts, time.Unix(int64(i)*600, 0).UTC().Format("15:04"))
	}
	parse(t, strings.Join(starts, ";"), "1m", time.UTC)
	starts = append(starts, "23:00")
	if _, err := Parse(strings.Join(starts, ";"), "1m", time.UTC); err == nil || !strings.Contains(err.Error(), "at most 64 starts") {
		t.Errorf("65 starts: %v", err)
	}
}

// Whoever reads the windows of a fleet parses many: the ns of a parse.
func BenchmarkParse(b *testing.B) {
	for _, start := range []string{"04:00", "Mon-Fri 04:00; Sat,Sun 02:00", "*/15 2 1,15 jan-mar MON-FRI", "* * * * *"} {
		b.Run(start, func(b *testing.B) {
			for b.Loop() {
				if _, err := Parse(start, "30s", time.UTC); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
