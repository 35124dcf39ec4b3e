package window

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/robfig/cron/v3"
)

// maxStarts bounds the work that a window can cause.
const maxStarts = 64

// A LengthError is an error of Parse about the length of a window. Every other error of Parse is about the start.
type LengthError struct{ reason string }

func (e *LengthError) Error() string { return e.reason }

func lengthErrorf(format string, args ...any) error {
	return &LengthError{fmt.Sprintf(format, args...)}
}

// Parse returns the window with a start and a length.
//
// A start has one of these forms; several are separated by ";":
//
//	04:00             every day, 24 hours; 4:00 and 004:0 mean the same
//	Sat 04:00         on one day of the week: Sun to Sat or the full name, in any case
//	Mon,Wed 04:00     on several days
//	Mon-Fri 04:00     on a range of days, which may run past the end of the week
//	0 4 * * 1-5       a cron expression: minute, hour, day of month, month, day of week
//
// Cron expressions follow github.com/robfig/cron/v3: names of months and days (JAN, MON) work, Sunday is 0, and if
// day of month and day of week are both restricted, either of them is enough. CRON_TZ=Zone before the first start,
// with an IANA name, replaces loc for all starts. loc must not be nil.
//
// The length is a Go duration such as 1h30m, above zero, and shorter than the time between any two starts, so that
// the window shuts before it opens again: less than 24h with a time of day only, less than 168h with one day. Lengths
// below a minute are accepted, but a program that checks the window once a minute can miss them.
//
// An error says what is wrong with the value and what would be right. It is a *LengthError if it is about the length.
func Parse(start, length string, loc *time.Location) (*Window, error) {
	start, length = strings.TrimSpace(start), strings.TrimSpace(length)
	if start == "" {
		return nil, errors.New(`a window needs a start: write one such as "04:00" or "Sat 04:00"`)
	}
	if length == "" {
		return nil, lengthErrorf(`a window needs a length: write one such as "1h"`)
	}

	w := &Window{loc: loc}
	if i := strings.IndexFunc(start, unicode.IsSpace); i > 0 && strings.HasPrefix(start, zonePrefix) {
		var err error
		if w.loc, err = loadZone(start[len(zonePrefix):i]); err != nil {
			return nil, err
		}
		w.starts = start[:i] + " "
		start = start[i:]
	}
	if strings.Contains(start, "TZ=") {
		return nil, fmt.Errorf("%q has a time zone where none can be: write CRON_TZ=Zone once, before the first start, such as CRON_TZ=Europe/Berlin 0 4 * * 1-5", strings.TrimSpace(start))
	}
	if err := w.parseStarts(start); err != nil {
		return nil, err
	}

	d, err := time.ParseDuration(length)
	if err != nil {
		return nil, lengthErrorf("%q is not a length: write numbers with their units, such as 30m or 1h30m", length)
	}
	if d <= 0 {
		return nil, lengthErrorf("a length of %s is not above zero: write one such as 30m or 1h30m", short(d))
	}
	if apart := w.apart(); d >= apart {
		return nil, lengthErrorf("a window %s long is still open at its next start, which can be %s after the one before: write less than %[2]s", short(d), short(apart))
	}
	w.length = d
	return w, nil
}

const zonePrefix = "CRON_TZ="

// The patterns are compiled when they are needed and not at start, to save the memory of a daemon without a window.
func zoneName() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$`) }

// loadZone returns the time zone of that name from the host's database. Unlike time.LoadLocation it refuses an empty
// name, and Local, which is not a zone but a setting.
func loadZone(name string) (*time.Location, error) {
	const right = "write an IANA name that this host knows, such as Europe/Berlin"
	if name == "Local" || !zoneName().MatchString(name) {
		return nil, fmt.Errorf("%q is not a time zone: %s", name, right)
	}
	loc, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("load time zone %q: %w: %s", name, err, right)
	}
	return loc, nil
}

// parseStarts sets the window's starts and specs.
func (w *Window) parseStarts(text string) error {
	var canonical []string
	for part := range strings.SplitSeq(text, ";") {
		c, expr, err := parseStart(part)
		if err != nil {
			return err
		}
		if slices.Contains(canonical, c) {
			continue
		}
		if len(canonical) == maxStarts {
			return fmt.Errorf("a window has at most %d starts: join days with the same time, such as Mon-Fri 04:00", maxStarts)
		}
		spec, err := parseCron(expr)
		if err != nil {
			return err
		}
		canonical = append(canonical, c)
		w.specs = append(w.specs, spec)
	}
	w.starts += strings.Join(canonical, "; ")
	return nil
}

// parseStart returns the canonical text and the cron expression of one start.
func parseStart(text string) (canonical, expr string, err error) {
	fields := strings.Fields(text)
	switch {
	case len(fields) == 0:
		return "", "", errors.New(`there is no start before or after a ";": write one such as "Mon-Fri 04:00; Sat,Sun 02:00", or leave the ";" out`)
	case strings.Contains(text, ":"):
		return parseClock(fields)
	case len(fields) == 1 || len(fields) == 2:
		return "", "", fmt.Errorf("%q has no time of day: write [DAY] HH:MM, such as Sat 04:00, or a cron expression, such as 0 4 * * 6", strings.Join(fields, " "))
	}
	expr = strings.Join(fields, " ")
	return expr, expr, nil
}

// timeOfDay is two whole numbers without a sign, as 0.7 read them.
func timeOfDay() *regexp.Regexp { return regexp.MustCompile(`^0*([01]?[0-9]|2[0-3]):0*([0-5]?[0-9])$`) }

// parseClock reads [DAYS] HH:MM.
func parseClock(fields []string) (canonical, expr string, err error) {
	last := len(fields) - 1
	hm := timeOfDay().FindStringSubmatch(fields[last])
	if hm == nil {
		if slices.ContainsFunc(fields[:last], timeOfDay().MatchString) {
			return "", "", fmt.Errorf("%q goes on after the time of day: write [DAY] HH:MM, such as Sat 04:00, and ; between several starts", strings.Join(fields, " "))
		}
		return "", "", fmt.Errorf("%q is not a time of day: write 24-hour HH:MM, such as 04:00 or 14:00", fields[last])
	}
	days := everyDay
	if last > 0 {
		if days, err = parseDays(strings.Join(fields[:last], " ")); err != nil {
			return "", "", err
		}
	}
	canonical = fmt.Sprintf("%02s:%02s", hm[1], hm[2])
	if days != everyDay {
		canonical = days.String() + " " + canonical
	}
	return canonical, fmt.Sprintf("%s %s * * %s", hm[2], hm[1], days.cron()), nil
}

// days is a set of days of the week, a bit for each time.Weekday.
type days uint8

const everyDay days = 1<<7 - 1

func (d days) has(day time.Weekday) bool { return d&(1<<day) != 0 }

// parseDays reads days and ranges of days separated by commas.
func parseDays(text string) (days, error) {
	var set days
	for item := range strings.SplitSeq(text, ",") {
		first, last, isRange := strings.Cut(item, "-")
		if !isRange {
			last = first
		}
		from, err := parseDay(first)
		if err != nil {
			return 0, err
		}
		to, err := parseDay(last)
		if err != nil {
			return 0, err
		}
		set |= 1 << to
		for day := from; day != to; day = (day + 1) % 7 {
			set |= 1 << day
		}
	}
	return set, nil
}

func parseDay(text string) (time.Weekday, error) {
	text = strings.TrimSpace(text)
	for day := time.Sunday; day <= time.Saturday; day++ {
		if name := day.String(); strings.EqualFold(text, name) || strings.EqualFold(text, name[:3]) {
			return day, nil
		}
	}
	return 0, fmt.Errorf("%q is not a day of the week: write Sun, Mon, Tue, Wed, Thu, Fri or Sat, and several as Mon,Wed or Mon-Fri", text)
}

// String returns the days from Monday to Sunday, with three or more in a row as a range.
func (d days) String() string {
	name := func(i int) string { return time.Weekday(i % 7).String()[:3] }
	var items []string
	for i := 1; i <= 7; i++ { // Sunday is 7 here
		n := 0
		for i+n <= 7 && d.has(time.Weekday((i+n)%7)) {
			n++
		}
		switch {
		case n >= 3:
			items = append(items, name(i)+"-"+name(i+n-1))
			i += n - 1
		case n > 0:
			items = append(items, name(i))
		}
	}
	return strings.Join(items, ",")
}

// cron returns the days as the last field of a cron expression.
func (d days) cron() string {
	var items []string
	for day := time.Sunday; day <= time.Saturday; day++ {
		if d.has(day) {
			items = append(items, fmt.Sprint(int(day)))
		}
	}
	return strings.Join(items, ",")
}

// cronField is the form of a field of a cron expression. The cron package checks the numbers, but accepts empty list
// items, signs, and anything after a star and a hyphen.
func cronField() *regexp.Regexp { return regexp.MustCompile(`^` + cronItem + `(,` + cronItem + `)*$`) }

const cronItem = `([*?]|[0-9A-Za-z]+(-[0-9A-Za-z]+)?)(/[0-9]+)?`

// parseCron reads a cron expression of five fields, and refuses one without any start.
func parseCron(expr string) (*cron.SpecSchedule, error) {
	const right = "write minute, hour, day of month, month and day of week, such as 0 4 * * 1-5 with 0 for Sunday"
	fields := strings.Split(expr, " ")
	if len(fields) != 5 {
		return nil, fmt.Errorf("%q has %d fields where a cron expression has five: %s", expr, len(fields), right)
	}
	for _, field := range fields {
		if !cronField().MatchString(field) {
			return nil, fmt.Errorf("%q in %q is not a field of a cron expression: %s", field, expr, right)
		}
	}
	schedule, err := cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow).Parse(expr)
	if err != nil {
		return nil, fmt.Errorf("parse cron expression %q: %w: %s", expr, err, right)
	}
	spec := schedule.(*cron.SpecSchedule)
	// Next searches five years, which from here include a leap year.
	if spec.Next(leapYear.Add(-time.Second)).IsZero() {
		return nil, fmt.Errorf("%q never opens: write a day that one of its months has, such as 0 4 28 2 *", expr)
	}
	return spec, nil
}

// leapYear is the beginning of a leap year on a wall clock, as if it were UTC.
var leapYear = time.Date(2000, time.January, 1, 0, 0, 0, 0, time.UTC)

// apart returns the shortest time between two starts of the window on the wall clock.
func (w *Window) apart() time.Duration {
	// The days of the week of all dates repeat after 28 years. One more year includes the step from the last of these
	// years to the first. A window that names only days of the week repeats every week.
	days := 29*365 + 8
	if w.weekly() {
		days = 2 * 7
	}
	known := make(map[uint64]dayStarts) // by the set of specs that include a day
	shortest, last := 0, -1
	note := func(apart int) {
		if apart > 0 && (shortest == 0 || apart < shortest) {
			shortest = apart
		}
	}
	for n := range days {
		day := leapYear.Add(time.Duration(n) * 24 * time.Hour)
		var having uint64
		for i, spec := range w.specs {
			if hasDay(spec, day) {
				having |= 1 << i
			}
		}
		if having == 0 {
			continue
		}
		s, ok := known[having]
		if !ok {
			s = w.dayStarts(having)
			known[having] = s
		}
		note(s.apart)
		if last >= 0 {
			note(n*24*60 + s.first - last)
		}
		last = n*24*60 + s.last
	}
	return time.Duration(shortest) * time.Minute
}

// weekly reports whether the starts of every week are the same.
func (w *Window) weekly() bool {
	const allDays, allMonths = 1<<32 - 1<<1, 1<<13 - 1<<1
	return !slices.ContainsFunc(w.specs, func(s *cron.SpecSchedule) bool {
		return s.Dom&allDays != allDays || s.Month&allMonths != allMonths
	})
}

// anyValue is the bit that the cron package sets in a field that is a star.
const anyValue = 1 << 63

// hasDay reports whether a schedule has starts on a day: if both the day of the month and that of the week are
// restricted, either is enough.
func hasDay(s *cron.SpecSchedule, day time.Time) bool {
	_, month, date := day.Date()
	dom, dow := s.Dom&(1<<date) != 0, s.Dow&(1<<day.Weekday()) != 0
	either := s.Dom&anyValue == 0 && s.Dow&anyValue == 0
	return s.Month&(1<<month) != 0 && (dom && dow || either && (dom || dow))
}

// dayStarts are the starts of a day, in minutes since midnight.
type dayStarts struct {
	first, last int
	apart       int // the shortest time between two of them; 0 if there is only one
}

// dayStarts returns the starts of a day that the given specs include, which are not none.
func (w *Window) dayStarts(having uint64) dayStarts {
	s := dayStarts{first: -1}
	for m := range 24 * 60 {
		for i, spec := range w.specs {
			if having&(1<<i) == 0 || spec.Hour&(1<<(m/60)) == 0 || spec.Minute&(1<<(m%60)) == 0 {
				continue
			}
			switch {
			case s.first < 0:
				s.first = m
			case s.apart == 0 || m-s.last < s.apart:
				s.apart = m - s.last
			}
			s.last = m
			break
		}
	}
	return s
}
