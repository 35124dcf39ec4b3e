package main

import (
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/internal/view"
)

// The fields that the help documents are those that scripts may rely on.
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
	walk(reflect.TypeFor[view.Document](), "  ")
	walk(reflect.TypeFor[view.HostDocument](), "  ")
	var documented []string
	help := (&app{}).statusCommand().Long
	for _, field := range regexp.MustCompile(`(?m)^( {2,4}[a-z_]+)  +\S`).FindAllStringSubmatch(help, -1) {
		documented = append(documented, field[1])
	}
	if !slices.Equal(documented, written) {
		t.Errorf("documented are\n%s\nand written are\n%s", strings.Join(documented, "\n"), strings.Join(written, "\n"))
	}
}
