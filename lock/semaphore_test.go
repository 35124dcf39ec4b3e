package lock

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func TestDocumentIsWrittenAsOtherClientsKnowIt(t *testing.T) {
	for _, test := range []struct {
		s    Semaphore
		want string
	}{
		{newSemaphore(1), `{"semaphore":1,"max":1,"holders":null}`},
		{Semaphore{Free: 0, Max: 1, Holders: []string{"69d27b356a94476da859461d3a3bc6fd"}},
			`{"semaphore":0,"max":1,"holders":["69d27b356a94476da859461d3a3bc6fd"]}`},
		{Semaphore{Free: 1, Max: 3, Holders: []string{"b", "a"}}, `{"semaphore":1,"max":3,"holders":["a","b"]}`},
		{Semaphore{Free: 1, Max: 1, Holders: []string{}}, `{"semaphore":1,"max":1,"holders":null}`},
	} {
		if got := string(test.s.Encode()); got != test.want {
			t.Errorf("%+v is written %s, want %s", test.s, got, test.want)
		}
	}
}

func TestDocumentOfOtherClientsIsRead(t *testing.T) {
	for _, test := range []struct {
		document string
		want     Semaphore
	}{
		{`{"semaphore":1,"max":1,"holders":null}`, Semaphore{1, 1, nil}},
		{`{"semaphore":1,"max":1,"holders":[]}`, Semaphore{1, 1, nil}},
		{`{"semaphore":1,"max":1}`, Semaphore{1, 1, nil}},
		{`{"semaphore":0,"max":1,"holders":["a"]}`, Semaphore{0, 1, []string{"a"}}},
		{`{"semaphore":1,"max":3,"holders":["b","a"]}`, Semaphore{1, 3, []string{"a", "b"}}},
		{`{"semaphore":-1,"max":1,"holders":["a","b"]}`, Semaphore{-1, 1, []string{"a", "b"}}},
		{`{"semaphore":0,"max":0,"holders":null}`, Semaphore{0, 0, nil}},
		{" {\n\"max\": 1, \"semaphore\": 1, \"since\": {\"x\": [1]}, \"holders\": [ ] }\n", Semaphore{1, 1, nil}},
	} {
		got, err := ParseSemaphore([]byte(test.document))
		if err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s is read as %+v, %v; want %+v", test.document, got, err, test.want)
		}
	}
}

func TestDocumentThatMakesNoSenseIsRefused(t *testing.T) {
	for _, test := range []struct{ document, want string }{
		{``, "not a JSON object"},
		{`null`, "not a JSON object"},
		{`[]`, "not a JSON object"},
		{`1`, "not a JSON object"},
		{`semaphore=1`, "not a JSON object"},
		{`{"semaphore":1,"max":1`, "not JSON"},
		{`{"semaphore":1,"max":1}}`, "not JSON"},
		{"{\"semaphore\":0,\"max\":1,\"holders\":[\"\xff\"]}", "not valid UTF-8"},
		{`{}`, `no "semaphore"`},
		{`{"max":1}`, `no "semaphore"`},
		{`{"semaphore":1}`, `no "max"`},
		{`{"Semaphore":1,"max":1}`, `no "semaphore"`},
		{`{"semaphore":"1","max":1}`, `"semaphore" is "1"`},
		{`{"semaphore":1.5,"max":1}`, `"semaphore" is 1.5`},
		{`{"semaphore":1,"max":null}`, `"max" is null`},
		{`{"semaphore":1,"max":99999999999999999999}`, `"max" is 99999999999999999999`},
		{`{"semaphore":0,"max":1,"holders":"a"}`, `"holders" is not a list of strings`},
		{`{"semaphore":0,"max":1,"holders":[1]}`, `"holders" is not a list of strings`},
		{`{"semaphore":0,"max":1,"holders":[null]}`, `empty entry`},
		{`{"semaphore":0,"max":1,"holders":[""]}`, `empty entry`},
		{`{"semaphore":0,"max":2,"holders":["a","a"]}`, `lists "a" twice`},
		{`{"semaphore":-1,"max":-1,"holders":null}`, `"max" is -1`},
		{`{"semaphore":1,"max":1,"holders":["a"]}`, `contradicts itself`},
		{`{"semaphore":0,"max":1,"holders":null}`, `contradicts itself`},
	} {
		got, err := ParseSemaphore([]byte(test.document))
		if err == nil {
			t.Errorf("%q is read as %+v", test.document, got)
		} else if !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: the error is %q, want one with %q", test.document, err, test.want)
		}
	}
}

func FuzzParseSemaphore(f *testing.F) {
	for _, seed := range []string{
		`{"semaphore":1,"max":1,"holders":null}`,
		`{"semaphore":-1,"max":1,"holders":["b","a"],"x":{}}`,
		`{"semaphore":0,"max":1,"holders":["\ud800<&\u2028"]}`,
		`{"max":9223372036854775807,"semaphore":9223372036854775807}`,
		`{"semaphore":0,"max":2,"holders":["a","a"]}`,
		`{`, `[]`, ``, "\xff",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := ParseSemaphore(data)
		if err != nil {
			if !reflect.DeepEqual(s, Semaphore{}) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("refused with %+v, %q", s, err)
			}
			return
		}
		if s.Free != s.Max-len(s.Holders) || s.Max < 0 {
			t.Fatalf("accepted %+v", s)
		}
		seen := map[string]bool{}
		for _, h := range s.Holders {
			if h == "" || seen[h] || !s.Holds(h) {
				t.Fatalf("accepted holders %q", s.Holders)
			}
			seen[h] = true
		}
		again, err := ParseSemaphore(s.Encode())
		if err != nil || !reflect.DeepEqual(again, s) {
			t.Fatalf("%+v is written %s and read as %+v, %v", s, s.Encode(), again, err)
		}
		// Every holder can be released, and what that leaves is a document, too.
		for _, h := range s.Holders {
			next, err := s.Release(h)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := ParseSemaphore(next.Encode()); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestSlotsAreTakenUpToMax(t *testing.T) {
	s, err := Semaphore{}.SetMax(2)
	if err != nil {
		t.Fatal(err)
	}
	for i, id := range []string{"b", "a"} {
		before := fmt.Sprint(s)
		next, err := s.Acquire(id)
		if err != nil || fmt.Sprint(s) != before {
			t.Fatalf("slot %d: %v; the old value is now %v, was %v", i+1, err, s, before)
		}
		s = next
	}
	want := Semaphore{0, 2, []string{"a", "b"}}
	if !reflect.DeepEqual(s, want) {
		t.Errorf("the semaphore is %+v, want %+v", s, want)
	}
	var full *FullError
	if _, err := s.Acquire("c"); !errors.As(err, &full) || !strings.Contains(err.Error(), "held by a, b") {
		t.Errorf("a third got %v", err)
	}
	if again, err := s.Acquire("a"); err != nil || !reflect.DeepEqual(again, s) {
		t.Errorf("a holder that asks again gets %+v, %v", again, err)
	}
	next, err := s.Release("a")
	if err != nil || !reflect.DeepEqual(next, Semaphore{1, 2, []string{"b"}}) || !reflect.DeepEqual(s, want) {
		t.Errorf("a release leaves %+v, %v, and the old value %+v", next, err, s)
	}
	var notHeld *NotHeldError
	if _, err := next.Release("a"); !errors.As(err, &notHeld) || !strings.Contains(err.Error(), "held by b") {
		t.Errorf("a second release got %v", err)
	}
}

func TestChangesLeaveTheOldValueAlone(t *testing.T) {
	backing := []string{"a", "b", "c", "d"}
	s := Semaphore{1, 4, backing[:3]}
	if _, err := s.Acquire("z"); err != nil {
		t.Error(err)
	}
	if _, err := s.Release("a"); err != nil {
		t.Error(err)
	}
	if _, err := s.SetMax(2); err != nil {
		t.Error(err)
	}
	if !reflect.DeepEqual(s, Semaphore{1, 4, []string{"a", "b", "c"}}) || backing[3] != "d" {
		t.Errorf("it is %+v now, of %v", s, backing)
	}
}

func TestSlotIsFreeOnlyIfBothNumbersSaySo(t *testing.T) {
	for _, s := range []Semaphore{
		{Free: 1, Max: 1, Holders: []string{"a"}},
		{Free: 0, Max: 2, Holders: []string{"a"}},
		{Free: -1, Max: 1, Holders: []string{"a", "b"}},
	} {
		var full *FullError
		if next, err := s.Acquire("z"); !errors.As(err, &full) {
			t.Errorf("%+v became %+v, %v", s, next, err)
		}
	}
}

func TestSetMaxTakesWholeNumbersFromZero(t *testing.T) {
	s := Semaphore{0, 2, []string{"a", "b"}}
	for _, test := range []struct{ max, free int }{{0, -2}, {1, -1}, {2, 0}, {5, 3}} {
		got, err := s.SetMax(test.max)
		if err != nil || !reflect.DeepEqual(got, Semaphore{test.free, test.max, s.Holders}) {
			t.Errorf("max %d makes it %+v, %v", test.max, got, err)
		}
		if _, err := got.Acquire("c"); (err == nil) != (test.free > 0) {
			t.Errorf("with max %d another gets %v", test.max, err)
		}
	}
	if got, err := s.SetMax(-3); err == nil || !strings.Contains(err.Error(), "-3") {
		t.Errorf("max -3 makes it %+v, %v", got, err)
	}
}

func TestIDThatCannotBeWrittenIsRefused(t *testing.T) {
	for _, id := range []string{"", "a\nb", "a\x1b[31m", "\xff", "\u0085", strings.Repeat("x", 257)} {
		if s, err := newSemaphore(1).Acquire(id); err == nil {
			t.Errorf("%q made it %+v", id, s)
		}
	}
	for _, id := range []string{"a b", "..", "a/b", "größe", `"`, strings.Repeat("x", 256)} {
		if _, err := newSemaphore(1).Acquire(id); err != nil {
			t.Error(err)
		}
	}
}

func TestNobodyMayRebootSaysSo(t *testing.T) {
	_, err := Semaphore{}.Acquire("a")
	if err == nil || !strings.Contains(err.Error(), "max is 0, so no host may reboot") {
		t.Errorf("the error is %v", err)
	}
}
