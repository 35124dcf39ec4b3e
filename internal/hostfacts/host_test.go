package hostfacts

import (
	"errors"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/locksmithd/locksmith/internal/policy"
)

// hostile is a snapshot in which every text and every list is as somebody chose it who means harm.
func hostile(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(strings.Repeat("\x1b[2J\x00\xff", 1000))
	case reflect.Struct:
		if _, isTime := v.Interface().(time.Time); isTime {
			v.Set(reflect.ValueOf(time.Date(-300_000, 1, 1, 0, 0, 0, 0, time.UTC)))
			return
		}
		for i := range v.NumField() {
			hostile(v.Field(i))
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 100, 100))
		for i := range v.Len() {
			hostile(v.Index(i))
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		hostile(v.Elem())
	}
}

// printable checks a value, and returns the bytes of its texts.
func printable(t *testing.T, v reflect.Value) (size int) {
	switch v.Kind() {
	case reflect.String:
		if s := v.String(); len(s) > maxText+10 || slices.ContainsFunc([]rune(s), func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("a text of %d bytes: %.20q", len(s), s)
		}
		return v.Len()
	case reflect.Struct:
		for i := range v.NumField() {
			size += printable(t, v.Field(i))
		}
	case reflect.Slice:
		if v.Len() > maxList {
			t.Errorf("a list has %d entries", v.Len())
		}
		for i := range v.Len() {
			size += printable(t, v.Index(i))
		}
	}
	return size
}

func TestTextsAndListsAreBounded(t *testing.T) {
	var s policy.Snapshot
	hostile(reflect.ValueOf(&s).Elem())
	h := Of(s, strings.Repeat("\x1b", 1e6))
	if size := printable(t, reflect.ValueOf(h)); size > 230<<10 {
		t.Errorf("the texts have %d bytes", size)
	}
	if h.StateSince != 0 {
		t.Errorf("a time long ago is %d", h.StateSince)
	}
}

func TestTimes(t *testing.T) {
	noon := time.Date(2027, 1, 2, 12, 0, 0, 1000, time.UTC)
	if got := micros(noon); got != 1_798_891_200_000_001 || !Time(got).Equal(noon) {
		t.Errorf("noon is %d, which is %v", got, Time(got))
	}
	for _, none := range []uint64{0, math.MaxUint64} {
		if !Time(none).IsZero() {
			t.Errorf("%d is %v", none, Time(none))
		}
	}
}

func TestHealthInAWord(t *testing.T) {
	at := time.Unix(100, 0)
	for want, health := range map[string]*policy.Health{
		"":         nil,
		"checking": {Until: at, Retry: policy.Retry{Error: errors.New("web is down").Error()}},
		"unwell":   {Unwell: true},
		"well":     {Releases: at},
	} {
		h := Of(policy.Snapshot{Health: health}, "")
		if h.Health != want || (h.HealthUntil == 100e6) != (want == "checking" || want == "well") {
			t.Errorf("%q: %+v", want, h)
		}
	}
}
