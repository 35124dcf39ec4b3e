package window

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/test/randtest"
)

// seeded returns a source of random numbers with a seed that can be set.
func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	return rand.New(rand.NewPCG(randtest.Seed(t), 0))
}

// A pattern is the meaning of a random start, computed independently of Parse: it
// starts at each of the minutes of each day for which on is true.
type pattern struct {
	text    string
	on      func(day time.Time) bool
	minutes [24 * 60]bool
}

func randomPattern(r *rand.Rand) pattern {
	if r.IntN(2) == 0 {
		return randomClock(r)
	}
	return randomCron(r)
}

// randomHour prefers the hours in which clocks change.
func randomHour(r *rand.Rand) int {
	if r.IntN(3) > 0 {
		return (r.IntN(6) + 23) % 24
	}
	return r.IntN(24)
}

func randomClock(r *rand.Rand) pattern {
	hour, minute := randomHour(r), r.IntN(60)
	var p pattern
	p.minutes[hour*60+minute] = true

	var having [7]bool
	var items []string
	for range r.IntN(4) {
		from := r.IntN(7)
		n := 1 + r.IntN(4)
		to := (from + n - 1) % 7
		for i := range n {
			having[(from+i)%7] = true
		}
		name := func(day int) string {
			s := time.Weekday(day).String()
			if r.IntN(2) == 0 {
				s = s[:3]
			}
			if r.IntN(2) == 0 {
				s = strings.ToLower(s)
			}
			return s
		}
		item := name(from)
		if n > 1 {
			item += "-" + name(to)
		}
		items = append(items, item)
	}
	p.text = fmt.Sprintf("%d:%02d", hour, minute)
	if len(items) > 0 {
		p.text = strings.Join(items, ",") + " " + p.text
	}
	p.on = func(day time.Time) bool { return len(items) == 0 || having[day.Weekday()] }
	return p
}

// randomField returns a field of a cron expression and the values that it
// allows; all is true for a field without restriction.
func randomField(r *rand.Rand, low, high int) (text string, takes map[int]bool, all bool) {
	takes = make(map[int]bool)
	if r.IntN(3) == 0 {
		for i := low; i <= high; i++ {
			takes[i] = true
		}
		return "*", takes, true
	}
	if r.IntN(4) == 0 {
		step := 2 + r.IntN(high-low)
		for i := low; i <= high; i += step {
			takes[i] = true
		}
		return fmt.Sprintf("*/%d", step), takes, false
	}
	var items []string
	for range 1 + r.IntN(3) {
		from := low + r.IntN(high-low+1)
		to := from + r.IntN(min(4, high-from+1))
		for i := from; i <= to; i++ {
			takes[i] = true
		}
		if from == to {
			items = append(items, fmt.Sprint(from))
		} else {
			items = append(items, fmt.Sprintf("%d-%d", from, to))
		}
	}
	return strings.Join(items, ","), takes, false
}

func randomCron(r *rand.Rand) pattern {
	var p pattern
	minute, hour := fmt.Sprint(r.IntN(60)), fmt.Sprint(randomHour(r))
	minutes, hours := map[int]bool{}, map[int]bool{}
	if r.IntN(2) == 0 {
		minute, minutes, _ = randomField(r, 0, 59)
	} else {
		minutes[atoi(minute)] = true
	}
	if r.IntN(2) == 0 {
		hour, hours, _ = randomField(r, 0, 23)
	} else {
		hours[atoi(hour)] = true
	}
	for h := range hours {
		for m := range minutes {
			p.minutes[h*60+m] = true
		}
	}
	dom, doms, anyDom := randomField(r, 1, 31)
	month, months, _ := randomField(r, 1, 12)
	dow, dows, anyDow := randomField(r, 0, 6)
	p.text = strings.Join([]string{minute, hour, dom, month, dow}, " ")
	p.on = func(day time.Time) bool {
		if !months[int(day.Month())] {
			return false
		}
		if anyDom || anyDow {
			return doms[day.Day()] && dows[int(day.Weekday())]
		}
		return doms[day.Day()] || dows[int(day.Weekday())]
	}
	return p
}

func atoi(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic(err)
	}
	return n
}

func randomPatterns(r *rand.Rand) (list []pattern, text string) {
	var texts []string
	for range 1 + r.IntN(3) {
		p := randomPattern(r)
		list = append(list, p)
		texts = append(texts, p.text)
	}
	return list, strings.Join(texts, "; ")
}

// randomWindow returns a window with these starts and a random length, which is
// often the longest possible one.
func randomWindow(t *testing.T, r *rand.Rand, text string, loc *time.Location) *Window {
	length := time.Duration(1+r.IntN(7*24*60)) * time.Minute
	if r.IntN(3) == 0 {
		length += time.Duration(r.Int64N(int64(time.Minute)))
	}
	for {
		w, err := Parse(text, length.String(), loc)
		tooLong := new(LengthError)
		switch {
		case err == nil:
			return w
		case errors.As(err, &tooLong):
			_, limit, _ := strings.Cut(err.Error(), "less than ")
			if length, err = time.ParseDuration(limit); err != nil {
				t.Fatal(err)
			}
			if length > 3*time.Hour && r.IntN(2) == 0 {
				length -= time.Duration(r.IntN(120)) * time.Minute
			}
			length -= 1 + time.Duration(r.Int64N(int64(time.Minute)))
		case strings.Contains(err.Error(), "never opens"):
			return nil
		default:
			t.Fatalf("Parse(%q): %v", text, err)
		}
	}
}

type opening struct{ start, end time.Time }

// reference goes through the given days minute by minute and returns the
// openings, joined where they touch. The window opens when the wall clock shows
// a start for the first time, or has just jumped over it.
func reference(patterns []pattern, length time.Duration, loc *time.Location, from time.Time, days int) []opening {
	wallMinute := func(t time.Time) int64 {
		_, offset := t.In(loc).Zone()
		return (t.Unix() + int64(offset)) / 60
	}
	var list []opening
	shown := wallMinute(from)
	for i := range days * 24 * 60 {
		t := from.Add(time.Duration(i) * time.Minute)
		opens := false
		for now := wallMinute(t); shown < now; {
			shown++
			day := time.Unix(shown*60, 0).UTC()
			for _, p := range patterns {
				opens = opens || p.minutes[shown%(24*60)] && p.on(day)
			}
		}
		switch last := len(list) - 1; {
		case !opens:
		case last >= 0 && !t.After(list[last].end):
			list[last].end = t.Add(length)
		default:
			list = append(list, opening{t, t.Add(length)})
		}
	}
	return list
}

var changingZones = []struct {
	name        string
	first, last int // years
}{
	{"UTC", 2000, 2060},
	{"Europe/Berlin", 1980, 2060},
	{"Europe/Dublin", 1980, 2060},
	{"Europe/Lisbon", 1992, 1996},
	{"America/New_York", 1975, 2060},
	{"America/St_Johns", 1987, 2012}, // a gap at one minute past midnight
	{"America/Sao_Paulo", 1985, 2019},
	{"America/Asuncion", 1985, 2024},
	{"America/Santiago", 1985, 2060},
	{"America/Caracas", 2007, 2016}, // half an hour for good
	{"Africa/Cairo", 2006, 2060},
	{"Africa/Casablanca", 2012, 2060}, // four changes a year
	{"Asia/Tehran", 2000, 2022},
	{"Asia/Pyongyang", 2015, 2018},
	{"Australia/Lord_Howe", 1982, 2060}, // half an hour
	{"Australia/Sydney", 1980, 2060},
	{"Antarctica/Troll", 2006, 2060}, // two hours
	{"Pacific/Apia", 2011, 2011},     // a day that does not exist
	{"Pacific/Kwajalein", 1993, 1993},
	{"Pacific/Auckland", 1976, 2060},
}

func TestWindowAgreesWithAClockWatchedMinuteByMinute(t *testing.T) {
	r := seeded(t)
	for _, z := range changingZones {
		loc := zone(t, z.name)
		for range 5 {
			patterns, text := randomPatterns(r)
			w := randomWindow(t, r, text, loc)
			if w == nil {
				continue
			}
			// Begin so early that openings from before have ended.
			year := time.Date(z.first+r.IntN(z.last-z.first+1), 1, 1, 0, 0, 0, 0, time.UTC)
			warm := int(w.length/(24*time.Hour)) + 3
			list := reference(patterns, w.length, loc, year.AddDate(0, 0, -warm), warm+400)
			for len(list) > 0 && list[0].start.Before(year) {
				list = list[1:]
			}
			checkOpenings(t, r, w, loc, list)
			if t.Failed() {
				return
			}
		}
	}
}

// checkOpenings asks w for instants around and inside openings: of all openings
// at which the clock changes, and of about 100 others. The last one may end
// after the reference, and is left out.
func checkOpenings(t *testing.T, r *rand.Rand, w *Window, loc *time.Location, list []opening) {
	offset := func(at time.Time) int {
		_, offset := at.In(loc).Zone()
		return offset
	}
	for i := range len(list) - 2 {
		now, next := list[i], list[i+1]
		changes := offset(now.start.Add(-time.Hour)) != offset(next.start.Add(time.Hour))
		if !changes && r.IntN(len(list)) > 100 {
			continue
		}
		check := func(at time.Time, want opening) {
			t.Helper()
			start, end := w.Next(at)
			if !start.Equal(want.start) || !end.Equal(want.end) {
				t.Errorf("%q in %s at %s: opening from %s to %s, want from %s to %s",
					w, loc, at.In(loc), start, end, want.start.In(loc), want.end.In(loc))
			}
			if got, want := w.Open(at), !at.Before(want.start); got != want {
				t.Errorf("%q in %s at %s: open is %t, want %t", w, loc, at.In(loc), got, want)
			}
		}
		check(now.start, now)
		check(now.start.Add(time.Duration(r.Int64N(int64(now.end.Sub(now.start))))), now)
		check(now.end.Add(-1), now)
		check(now.end, next)
		check(now.end.Add(time.Duration(r.Int64N(int64(next.start.Sub(now.end))))), next)
		check(next.start.Add(-1), next)
		if t.Failed() {
			return
		}
	}
}

// The longest accepted length is just below the shortest time between two starts
// on the wall clock, which in UTC is the time between two openings.
func TestLengthIsRefusedExactlyWhenOpeningsWouldMeet(t *testing.T) {
	r := seeded(t)
	for range 40 {
		patterns, text := randomPatterns(r)
		w, err := Parse(text, "1ns", time.UTC)
		if err != nil {
			continue // never opens
		}
		// All starts of 30 years, in minutes since the first year's beginning.
		var starts []int
		for n, day := 0, time.Date(1984, 1, 1, 0, 0, 0, 0, time.UTC); day.Year() < 2014; n, day = n+1, day.AddDate(0, 0, 1) {
			var minutes [24 * 60]bool
			for _, p := range patterns {
				if p.on(day) {
					for m, is := range p.minutes {
						minutes[m] = minutes[m] || is
					}
				}
			}
			for m, is := range minutes {
				if is {
					starts = append(starts, n*24*60+m)
				}
			}
		}
		apart := starts[1] - starts[0]
		for i := range len(starts) - 1 {
			apart = min(apart, starts[i+1]-starts[i])
		}
		limit := time.Duration(apart) * time.Minute
		if _, err := Parse(text, (limit - 1).String(), time.UTC); err != nil {
			t.Errorf("%q: %s is refused: %v", w, limit-1, err)
		}
		if _, err := Parse(text, limit.String(), time.UTC); err == nil {
			t.Errorf("%q: %s is accepted", w, limit)
		}
	}
}
