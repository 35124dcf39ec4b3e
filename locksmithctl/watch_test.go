package main

import (
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/lock"
)

var update = flag.Bool("update", false, "write what is there now into the golden files")

// golden compares with a file in testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", "golden", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

var noon = time.Date(2027, 1, 2, 12, 0, 0, 0, time.UTC)

func holding(id string, since time.Time) lock.HolderInfo {
	return lock.HolderInfo{ID: id, Record: lock.Record{Hostname: "web-" + id, Since: since, By: "locksmithd", Version: "4230.2.1"}}
}

func waiting(id string, since time.Time) lock.Waiter {
	return lock.Waiter{ID: id, Hostname: "web-" + id, Since: since, Version: "4230.2.1"}
}

func overview(max int, holders []lock.HolderInfo, queue ...lock.Waiter) lock.Overview {
	o := lock.Overview{Exists: true, Holders: holders, Queue: queue}
	o.Semaphore = lock.Semaphore{Free: max - len(holders), Max: max}
	for _, h := range holders {
		o.Semaphore.Holders = append(o.Semaphore.Holders, h.ID)
	}
	return o
}

func TestViewOnATerminal(t *testing.T) {
	holders := []lock.HolderInfo{holding("1", noon), holding("2", noon.Add(time.Minute)), {ID: "3", Broken: true}, {ID: "4"}}
	holders[0].Expired = true
	var queue []lock.Waiter
	for _, id := range strings.Split("abcdefghijklmnopqrstuvwxyz", "") {
		queue = append(queue, waiting(id, noon.Add(-time.Hour)))
	}
	paused := overview(2, holders[:1], queue[:2]...)
	paused.Pause = &lock.Pause{By: "ann@bastion", Since: noon, Reason: "bad release", All: true}
	hostile := overview(1, []lock.HolderInfo{{ID: "x\x1b[2J\r\n" + strings.Repeat("long", 1000)}})

	for name, show := range map[string]func() []string{
		"nothing": func() []string {
			return (&progress{}).view("", "", noon, 80, 24)
		},
		"unreachable": func() []string {
			return (&progress{}).view("lb", "etcd at http://10.0.0.1:2379: connection\x1b refused", noon, 80, 24)
		},
		"fleet": func() []string {
			p := &progress{}
			p.see(overview(4, []lock.HolderInfo{holding("0", noon)}, queue...), noon)
			p.see(overview(4, holders, queue...), noon.Add(10*time.Minute))
			return p.view("prod/database", "", noon.Add(20*time.Minute), 80, 20)
		},
		"out-of-date": func() []string {
			p := &progress{}
			p.see(overview(4, holders, queue...), noon)
			return p.view("", "read the lock: no answer in time from etcd at http://10.0.0.1:2379", noon.Add(time.Minute), 60, 14)
		},
		"paused": func() []string {
			p := &progress{}
			p.see(paused, noon)
			return p.view("", "", noon.Add(time.Minute), 100, 24)
		},
		"done": func() []string {
			p := &progress{}
			p.see(overview(1, holders[:1]), noon)
			p.see(overview(1, nil), noon.Add(time.Minute))
			return p.view("", "", noon.Add(2*time.Minute), 100, 24)
		},
		"hostile": func() []string {
			p := &progress{}
			p.see(hostile, noon)
			return p.view("", "", noon, 80, 24)
		},
	} {
		t.Run(name, func(t *testing.T) {
			golden(t, "view-"+name+".txt", strings.Join(show(), "\n")+"\n")
		})
	}

	p := &progress{}
	p.see(overview(4, holders, queue...), noon)
	for width := range 90 {
		for height := range 40 {
			lines := p.view("", "", noon, width, height)
			if len(lines) > max(1, height) {
				t.Fatalf("%d lines on a terminal of %dx%d", len(lines), width, height)
			}
			for _, l := range lines {
				if len([]rune(l)) > width {
					t.Fatalf("%q on a terminal of %dx%d", l, width, height)
				}
			}
		}
	}
}

func TestPaceAndEstimatedEnd(t *testing.T) {
	queue := func(n int) (q []lock.Waiter) {
		for range n {
			q = append(q, waiting("w", noon))
		}
		return q
	}
	p := &progress{}
	p.see(overview(1, []lock.HolderInfo{holding("0", noon)}, queue(100)...), noon)
	// One every 6 minutes for two hours, then one a minute: it is the last 20 that count.
	at, held := noon, 0
	next := func(step time.Duration) {
		at = at.Add(step)
		held++
		p.see(overview(1, []lock.HolderInfo{holding(string(rune('0'+held)), noon)}, queue(100-held)...), at)
	}
	for range 20 {
		next(6 * time.Minute)
	}
	want := func(p *progress, now time.Time, rate, end string) {
		t.Helper()
		if got := p.rate(now); got != rate {
			t.Errorf("the rate is %q, want %q", got, rate)
		}
		if got := p.end(now); got != end {
			t.Errorf("the end is %q, want %q", got, end)
		}
	}
	want(p, at, "20 since 12:00:00, 10.0 an hour", "in about 8h06m, Sat 2027-01-02 22:06:00 UTC")
	for range 40 {
		next(time.Minute)
	}
	want(p, at, "60 since 12:00:00, 60.0 an hour", "in about 41m, Sat 2027-01-02 15:21:00 UTC")
	if r := p.report(at); !r.Since.Equal(noon) || r.Reboots != 60 || *r.PerHour != 60 || !r.End.Equal(at.Add(41*time.Minute)) {
		t.Errorf("for programs it is %+v", r)
	}
	// Where nothing happens any more, that shows.
	want(p, at.Add(19*time.Minute), "60 since 12:00:00, 30.0 an hour", "in about 1h22m, Sat 2027-01-02 16:21:00 UTC")
	want(p, at.Add(1e6*time.Hour), "60 since 12:00:00, 0.0 an hour", "not in sight")
	if len(p.recent) != recently {
		t.Errorf("%d times are kept", len(p.recent))
	}

	for end, o := range map[string]lock.Overview{
		"nobody waits":                           overview(1, nil),
		"to be estimated after the first reboot": overview(1, nil, queue(1)...),
		"not in sight while max is 0":            overview(0, nil, queue(1)...),
		"not in sight while paused":              {Pause: &lock.Pause{}, Queue: queue(1)},
	} {
		p := &progress{}
		p.see(o, noon)
		want(p, noon, "0 since 12:00:00", end)
		if r := p.report(noon); r.Reboots != 0 || r.PerHour != nil || r.End != nil {
			t.Errorf("%s: for programs it is %+v", end, r)
		}
	}
}

func TestLinesTellWhatHasChanged(t *testing.T) {
	p := &progress{}
	see := func(o lock.Overview, at time.Time, want string) {
		t.Helper()
		if got := p.line(p.see(o, at), at); got != want+"\n" {
			t.Errorf("got  %q\nwant %q", got, want+"\n")
		}
	}
	const stamp = "Sat 2027-01-02 12:00:00 UTC  "
	see(overview(1, nil), noon, stamp+"1 of 1 available; 0 waiting; reboots: 0 since 12:00:00; end: nobody waits")
	o := overview(1, []lock.HolderInfo{holding("a", noon)}, waiting("b", noon))
	see(o, noon, stamp+"taken by web-a (a); 0 of 1 available; 1 waiting; reboots: 0 since 12:00:00; end: to be estimated after the first reboot")
	o.Pause = &lock.Pause{By: "ann", Reason: "why"}
	see(o, noon, stamp+"paused: by ann: why; 0 of 1 available; 1 waiting; reboots: 0 since 12:00:00; end: not in sight while paused")
	see(o, noon, stamp+"0 of 1 available; 1 waiting; reboots: 0 since 12:00:00; end: not in sight while paused")
	o = overview(1, []lock.HolderInfo{holding("b", noon)})
	see(o, noon.Add(time.Minute), "Sat 2027-01-02 12:01:00 UTC  given back by web-a (a); taken by web-b (b); paused: no; 0 of 1 available; 0 waiting; reboots: 1 since 12:00:00, 60.0 an hour; end: in about 1m, Sat 2027-01-02 12:02:00 UTC")
	many := []lock.HolderInfo{holding("b", noon), {ID: "c\x1b[2J"}, {ID: "d"}, {ID: "e"}, {ID: "f"}, {ID: "g"}, {ID: "h"}}
	see(overview(9, many), noon.Add(time.Minute), `Sat 2027-01-02 12:01:00 UTC  taken by c\x1b[2J, d, e, f, g, and 1 more; 2 of 9 available; 0 waiting; reboots: 1 since 12:00:00, 60.0 an hour; end: in about 7m, Sat 2027-01-02 12:08:00 UTC`)
}

func TestWhatIsTheSameIsNotWrittenAgain(t *testing.T) {
	for _, f := range []format{formatText, formatJSON} {
		var out strings.Builder
		a := &app{process: process{stdout: &out, now: func() time.Time { return noon }}}
		show, done, err := a.shower("", f)
		if err != nil {
			t.Fatal(err)
		}
		for i, o := range []lock.Overview{
			overview(1, nil), overview(1, nil), overview(1, []lock.HolderInfo{holding("1", noon)}), overview(1, []lock.HolderInfo{holding("1", noon)}),
		} {
			before := out.Len()
			if err := show(&sighting{overview: o}); err != nil {
				t.Fatal(err)
			}
			if changed := i%2 == 0; (out.Len() > before) != changed {
				t.Errorf("%v: overview %d was written: %v", f, i, !changed)
			}
		}
		if err := done(); err != nil {
			t.Error(err)
		}
	}
}

func TestAge(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Hour: "0s", 0: "0s", 59*time.Second + 999*time.Millisecond: "59s", time.Minute: "1m", time.Hour - 1: "59m",
		time.Hour: "1h00m", 25 * time.Hour: "1d01h", 24*time.Hour - 1: "23h59m", 1000 * time.Hour: "41d16h",
	} {
		if got := age(d); got != want {
			t.Errorf("age(%v) = %q, want %q", d, got, want)
		}
	}
}

// What is stable is what the help documents.
func TestHelpNamesTheFieldsThatAreWritten(t *testing.T) {
	var written []string
	var walk func(reflect.Type, string)
	walk = func(of reflect.Type, indent string) {
		for of.Kind() == reflect.Pointer || of.Kind() == reflect.Slice {
			of = of.Elem()
		}
		if of.Kind() != reflect.Struct || of == reflect.TypeFor[time.Time]() {
			return
		}
		for i := range of.NumField() {
			json, yaml := of.Field(i).Tag.Get("json"), of.Field(i).Tag.Get("yaml")
			if json != yaml {
				t.Errorf("%s is %q in JSON and %q in YAML", of.Field(i).Name, json, yaml)
			}
			name, _, _ := strings.Cut(json, ",")
			written = append(written, indent+name)
			walk(of.Field(i).Type, indent+"  ")
		}
	}
	walk(reflect.TypeFor[report](), "  ")
	var documented []string
	help := (&app{}).statusCommand().Long
	for _, field := range regexp.MustCompile(`(?m)^( {2,4}[a-z_]+)  +\S`).FindAllStringSubmatch(help, -1) {
		documented = append(documented, field[1])
	}
	if !slices.Equal(documented, written) {
		t.Errorf("documented are\n%s\nand written are\n%s", strings.Join(documented, "\n"), strings.Join(written, "\n"))
	}
}

func TestSuggestedCommandsAreQuoted(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "lb-1.example/x_y": `lb-1.example/x_y`, "prod db": `'prod db'`, "$(reboot)": `'$(reboot)'`, "it's": `'it'\''s'`, "a;b": `'a;b'`,
	} {
		if got := word(text); got != want {
			t.Errorf("%q is written %s, want %s", text, got, want)
		}
	}
}
