package inventory

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/locksmithd/locksmith/test/must"
)

// full is a record with everything in it.
func full() Host {
	at := func(hour int) time.Time { return time.Date(2027, 1, 2, hour, 0, 0, 0, time.UTC) }
	return Host{
		ID: "1", Hostname: "web-1", OS: "Flatcar", OSVersion: "4152.2.0", Locksmith: "0.8.0", Booted: at(1), Updated: at(9),
		State: Waiting, Since: at(8), Why: "waiting for the window", WaitsFor: "window",
		Need:   &Need{"4230.2.1", at(7), []string{"update_engine"}},
		Window: &Window{"Sun 04:00", "1h", "Europe/Berlin", "2026-12-23/2027-01-02"}, Opens: at(20), Shuts: at(21),
		Last: &Reboot{"4152.2.0", at(2), 90 * time.Second, true, ""},
	}
}

func TestRecordComesBackAsItWas(t *testing.T) {
	want := full()
	data, err := json.Marshal(want)
	must.Do(t, err)
	if got := *parse("1", "", data); !reflect.DeepEqual(got, want) {
		t.Errorf("written is\n%+v\nread is\n%+v", want, got)
	}
	for _, field := range []string{"unknown", "Hostname2"} { // of a later version
		data := strings.Replace(string(data), "{", `{"`+field+`":{"a":[1]},`, 1)
		if got := *parse("1", "", []byte(data)); !reflect.DeepEqual(got, want) {
			t.Errorf("with another field it is read as %+v", got)
		}
	}
}

func TestWhatIsNotARecordIsBroken(t *testing.T) {
	for _, data := range []string{
		"", "null", "[]", `"web-1"`, "true", "{", `{"hostname":1}`, `{"need":[]}`, `{"need":{"reasons":{}}}`, `{"since":"yesterday"}`,
		`{"last_reboot":{"took_ns":"1m"}}`, `{"last_reboot":{"took_ns":1e400}}`, `{"state":null,"window":3}`, "{\"hostname\":\"\xff\"}", "{}{}",
		`{"hostname":"` + strings.Repeat("x", maxRecord) + `"}`, strings.Repeat(`{"a":`, 20_000),
	} {
		if h := parse("1", "lb", []byte(data)); !h.Broken || h.ID != "1" || h.Group != "lb" || h.State != Unreadable || h.Hostname != "" || h.Need != nil {
			t.Errorf("%.40q is read as %+v", data, h)
		}
	}
	for _, data := range []string{"{}", " \n{}\n", `{"need":null,"window":{},"last_reboot":{"at":null}}`} {
		if h := parse("1", "", []byte(data)); h.Broken {
			t.Errorf("%q is read as %+v", data, h)
		}
	}
}

func TestRecordIsBoundedAndSafe(t *testing.T) {
	h := parse("1", "", []byte(`{"hostname":"\u001b[2J\u202e<b>","why":"`+strings.Repeat("é", 2000)+`","updated":"9999-12-31T23:59:59-23:00","since":"0000-01-01T00:00:00Z",
		"booted":"2027-01-02T03:04:05.678+01:00","need":{"reasons":["1","2","3","4","5","6","7","8","9"]},"last_reboot":{"took_ns":-5}}`))
	if h.Hostname != `\x1b[2J\u202e<b>` || len(h.Why) > maxWhy+10 || !h.Updated.IsZero() || !h.Since.IsZero() || h.Last.Took != 0 || len(h.Need.Reasons) != maxReasons {
		t.Errorf("it is read as %+v", h)
	}
	if want := time.Date(2027, 1, 2, 2, 4, 5, 0, time.UTC); h.Booted != want {
		t.Errorf("the boot was at %v, want %v", h.Booted, want)
	}
}

// A record takes no more memory than what is kept of it. Ten thousand may be in memory at once.
func TestWhatIsNotKeptOfARecordTakesNoMemory(t *testing.T) {
	h := parse("1", "", []byte(`{"need":{"reasons":["`+strings.Repeat(`x","`, 30_000)+`"]}}`))
	if h.Broken || cap(h.Need.Reasons) > 2*maxReasons {
		t.Errorf("of the reasons %d are kept, in an array of %d", len(h.Need.Reasons), cap(h.Need.Reasons))
	}
}

// The longest texts that a host can write, all of which JSON escapes.
func TestWhatAHostWritesCanBeRead(t *testing.T) {
	h := full()
	long := strings.Repeat("<", 20_000)
	h.Hostname, h.OS, h.OSVersion, h.Locksmith, h.WaitsFor, h.Why = long, long, long, long, long, long
	h.Need = &Need{Version: long, Reasons: []string{long, long, long, long, long, long, long, long, long, long}}
	h.Window, h.Last = &Window{long, long, long, long}, &Reboot{Version: long, Why: long}
	h.clean()
	data, err := json.Marshal(h)
	must.Do(t, err)
	if got := parse("1", "", data); got.Broken {
		t.Errorf("a record of %d bytes is broken", len(data))
	}
}

func FuzzRecord(f *testing.F) {
	data, err := json.Marshal(full())
	must.Do(f, err)
	f.Add(data)
	f.Add([]byte(`{"hostname":"\u001b[2J","need":{"reasons":["\u202e"]},"window":{"blackout":"\u0000"},"since":"9999-12-31T23:59:59-23:59"}`))
	f.Add([]byte(`[{}]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		h := parse("1", "lb", data)
		again, err := json.Marshal(h)
		must.Do(t, err)
		if len(again) > maxRecord || h.ID != "1" || h.Group != "lb" || h.Broken && h.State != Unreadable {
			t.Errorf("%q is read as %+v", data, h)
		}
		var texts func(v reflect.Value)
		texts = func(v reflect.Value) {
			switch v.Kind() {
			case reflect.String:
				if s := v.String(); strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) || len(s) > maxBlackout+16 {
					t.Errorf("%q has %q", data, s)
				}
			case reflect.Pointer:
				if !v.IsNil() {
					texts(v.Elem())
				}
			case reflect.Slice:
				for i := range v.Len() {
					texts(v.Index(i))
				}
			case reflect.Struct:
				if v.Type() == reflect.TypeFor[time.Time]() {
					return
				}
				for i := range v.NumField() {
					texts(v.Field(i))
				}
			}
		}
		texts(reflect.ValueOf(h))
		if h.Broken {
			return
		}
		if twice := parse("1", "lb", again); twice.Broken {
			t.Errorf("%q is read, and what it is written as, %q, is not", data, again)
		}
	})
}
