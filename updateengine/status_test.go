package updateengine

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/locksmithd/locksmith/test/bustest"
	"github.com/locksmithd/locksmith/test/must"
)

// Only five values of the right types and within the limits are accepted, and they are not changed.
func FuzzDecodeStatus(f *testing.F) {
	f.Add([]byte("xdssx"), int64(1), 0.5, NeedReboot, "1.2.3")
	f.Add([]byte("xdss"), int64(0), 0.0, "", "")
	f.Add([]byte("sdxsx"), int64(0), math.NaN(), NeedReboot, "")
	f.Add([]byte("vdsax"), int64(-1), math.Inf(1), strings.Repeat("x", 1000), "")
	f.Fuzz(func(t *testing.T, types []byte, number int64, fraction float64, text1, text2 string) {
		var body []any
		text := text1
		for _, kind := range types {
			switch kind {
			case 'x':
				body = append(body, number)
			case 'd':
				body = append(body, fraction)
			case 's':
				body = append(body, text)
				text = text2
			case 'v':
				body = append(body, dbus.MakeVariant(number))
			case 'a':
				body = append(body, []string{text})
			default:
				body = append(body, nil)
			}
		}
		status, err := decodeStatus(body)
		if err != nil {
			if status != (Status{}) {
				t.Errorf("an error and %+v", status)
			}
			return
		}
		if string(types) != "xdssx" || text1 == "" || len(text1) > maxOperation || len(text2) > maxVersion {
			t.Errorf("accepted %q", types)
		}
		if want := (Status{number, fraction, text1, text2, number}); status != want {
			t.Errorf("got %+v, want %+v", status, want)
		}
	})
}

func TestMalformedSignalsAreIgnored(t *testing.T) {
	type pair struct{ A, B string }
	for i, values := range [][]any{
		{},
		{int64(0)},
		{int64(0), 0.0, NeedReboot, ""},
		{int64(0), 0.0, NeedReboot, "", int64(0), "more"},
		{int32(0), 0.0, NeedReboot, "", int64(0)},
		{int64(0), int64(0), NeedReboot, "", int64(0)},
		{int64(0), 0.0, dbus.MakeVariant(NeedReboot), "", int64(0)},
		{int64(0), 0.0, []string{NeedReboot}, "", int64(0)},
		{int64(0), 0.0, dbus.ObjectPath("/x"), "", int64(0)},
		{NeedReboot, 0.0, int64(0), "", int64(0)},
		{pair{"a", "b"}},
		{map[string]dbus.Variant{NeedReboot: dbus.MakeVariant(int64(1))}},
		{int64(0), nan(), NeedReboot, "", int64(0)},
		{int64(0), 0.0, "", "", int64(0)},
		{int64(0), 0.0, strings.Repeat("x", 100_000), "", int64(0)},
		{int64(0), 0.0, NeedReboot, strings.Repeat("x", 100_000), int64(0)},
		{int64(0), 0.0, NeedReboot, strings.Repeat("x", 1<<20), int64(0)},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			h := newHost(t, Trust{})
			engine := bustest.For(t).Engine(h.bus)
			e := h.watch()
			e.expect(Engine, Idle)
			must.Do(t, engine.Emit(values...))
			// The next event is that of the next well-formed signal.
			must.Do(t, engine.Announce(bustest.Status{Operation: Downloading}))
			e.expect(Engine, Downloading)
			if len(values) > 3 {
				if s, ok := values[3].(string); ok && len(s) >= 1<<20 {
					return // the connection drops it without a word
				}
			}
			h.log.expect(t, "WARN", "malformed")
		})
	}
}

func nan() float64 { var zero float64; return zero / zero }

func TestMalformedAnswerIsAnError(t *testing.T) {
	h := newHost(t, Trust{})
	peer := bustest.For(t).Connect(h.bus)
	must.Do(t, peer.ExportMethodTable(map[string]any{
		"GetStatus": func() (string, *dbus.Error) { return NeedReboot, nil },
	}, bustest.EnginePath, bustest.EngineInterface))
	if _, err := peer.RequestName(bustest.EngineName, dbus.NameFlagDoNotQueue); err != nil {
		t.Fatal(err)
	}
	status, err := h.client.Status(t.Context())
	if err == nil || errors.Is(err, ErrAbsent) || status != (Status{}) {
		t.Errorf("got %+v, %v", status, err)
	}
}
