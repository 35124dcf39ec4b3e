package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/locksmithd/locksmith/window"
)

const (
	day = 24 * time.Hour
	// maxBlackouts bounds how many ranges of days are looked at for each answer of a window.
	maxBlackouts = 400
	// blackoutExample is a right value.
	blackoutExample = "2026-12-23/2027-01-02; 2027-04-02"
)

// days are whole days of the calendar on which there is no reboot, from the first to the last of them. Both are
// midnights, as if the clock were UTC: which instants they are depends on the zone.
type days struct{ first, last time.Time }

// in returns the time from the beginning of the first day to the end of the last one. It is empty if the zone's
// calendar does not have these days.
func (d days) in(loc *time.Location) (from, to time.Time) {
	return window.First(d.first, loc), window.First(d.last.Add(day), loc)
}

// String returns the days as they are set: "2026-12-23/2027-01-02" or "2027-04-02".
func (d days) String() string { return d.join("/") }

// blackout returns the days as the reason for a window that is shut.
func (d days) blackout() string {
	if d.first.Equal(d.last) {
		return "a blackout on " + d.String()
	}
	return "a blackout from " + d.join(" to ")
}

func (d days) join(separator string) string {
	first, last := d.first.Format(time.DateOnly), d.last.Format(time.DateOnly)
	if first == last {
		return first
	}
	return first + separator + last
}

// parseDays returns the days that a text names, in order. Those that overlap or follow each other are one range.
func parseDays(text string) (all []days, err error) {
	for item := range strings.SplitSeq(text, ";") {
		if item = strings.TrimSpace(item); item == "" {
			continue
		}
		from, to, isRange := strings.Cut(item, "/")
		if !isRange {
			to = from
		}
		first, errFirst := time.Parse(time.DateOnly, strings.TrimSpace(from))
		last, errLast := time.Parse(time.DateOnly, strings.TrimSpace(to))
		switch {
		case errFirst != nil || errLast != nil:
			return nil, fmt.Errorf("%q is not a day or a range of days: write days as in %s", shorten(item, maxShown), blackoutExample)
		case last.Before(first):
			return nil, fmt.Errorf("%q ends before it begins: write the earlier day first", shorten(item, maxShown))
		}
		all = append(all, days{first, last})
	}
	switch {
	case len(all) == 0:
		return nil, errors.New("it names no day: write days as in " + blackoutExample + ", or leave it empty for none")
	case len(all) > maxBlackouts:
		return nil, fmt.Errorf("it names more than %d days or ranges of days: write days that follow each other as one range", maxBlackouts)
	}
	slices.SortFunc(all, func(a, b days) int { return a.first.Compare(b.first) })
	merged := all[:1]
	for _, d := range all[1:] {
		if end := &merged[len(merged)-1]; d.first.After(end.last.Add(day)) {
			merged = append(merged, d)
		} else if d.last.After(end.last) {
			end.last = d.last
		}
	}
	return merged, nil
}
