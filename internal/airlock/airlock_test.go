package airlock

import (
	"reflect"
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/storetest"
)

func store(t *testing.T, values map[string]string) lock.Store {
	t.Helper()
	s := storetest.NewMemory()
	for key, value := range values {
		_, _, err := s.Commit(t.Context(), nil, []lock.Op{{Key: key, Value: []byte(value)}})
		must.Do(t, err)
	}
	return s
}

func TestRead(t *testing.T) {
	groups, err := Read(t.Context(), store(t, map[string]string{
		"com.coreos.airlock/groups/default/v1/semaphore":     `{"total_slots":2,"holders":["b","a","b"]}`,
		"com.coreos.airlock/groups/a%2Fb+c/v1/semaphore":     `{"total_slots":0,"holders":null}`,
		"com.coreos.airlock/groups0":                         "not airlock's",
		"com.coreos.airlock/group":                           "not airlock's",
		"coreos.com/updateengine/rebootlock/groups/x/holder": "ours",
	}))
	must.Do(t, err)
	want := []Group{{Name: "a/b c"}, {Name: "default", Slots: 2, Holders: []string{"a", "b"}}}
	if !reflect.DeepEqual(groups, want) {
		t.Errorf("the groups are %+v, want %+v", groups, want)
	}
}

func TestNothingIsReadFromWhatCannotBeUnderstood(t *testing.T) {
	good := "com.coreos.airlock/groups/g/v1/semaphore"
	for name, pair := range map[string][2]string{
		"no JSON":             {good, "{"},
		"an array":            {good, "[]"},
		"no slots":            {good, `{"holders":[]}`},
		"slots below zero":    {good, `{"total_slots":-1,"holders":[]}`},
		"slots as a text":     {good, `{"total_slots":"1","holders":[]}`},
		"holders as a text":   {good, `{"total_slots":1,"holders":"a"}`},
		"a number as an id":   {good, `{"total_slots":1,"holders":[1]}`},
		"a very long one":     {good, `{"total_slots":1,"holders":["` + strings.Repeat("x", maxDocument) + `"]}`},
		"an unknown version":  {"com.coreos.airlock/groups/g/v2/semaphore", `{}`},
		"a bad escape":        {"com.coreos.airlock/groups/%zz/v1/semaphore", `{"total_slots":1,"holders":[]}`},
		"no group":            {"com.coreos.airlock/groups//v1/semaphore", `{"total_slots":1,"holders":[]}`},
		"a slash too much":    {"com.coreos.airlock/groups/a/b/v1/semaphore", `{"total_slots":1,"holders":[]}`},
		"a control character": {"com.coreos.airlock/groups/\x1b[31m/v1/x", `{"total_slots":1,"holders":[]}`},
	} {
		t.Run(name, func(t *testing.T) {
			groups, err := Read(t.Context(), store(t, map[string]string{
				"com.coreos.airlock/groups/default/v1/semaphore": `{"total_slots":2,"holders":[]}`, pair[0]: pair[1],
			}))
			if err == nil || groups != nil || len(err.Error()) > 600 || strings.Contains(err.Error(), "\x1b") {
				t.Errorf("read %+v, and the error %v", groups, err)
			}
		})
	}
}
