package view

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf16"

	"go.yaml.in/yaml/v3"
)

// Format is the form in which a lock is shown. It is a flag's value, too.
type Format string

const (
	Text Format = "text"
	Wide Format = "wide"
	JSON Format = "json"
	YAML Format = "yaml"
)

// Formats returns the names of all formats.
func Formats() []string {
	return []string{string(Text), string(Wide), string(JSON), string(YAML)}
}

// Set implements a flag.
func (f *Format) Set(value string) error {
	if !slices.Contains(Formats(), value) {
		return errors.New("write text, wide, json or yaml")
	}
	*f = Format(value)
	return nil
}

func (f *Format) String() string { return string(*f) }

// Type names the value in usage texts.
func (f *Format) Type() string { return "FORMAT" }

// ForPrograms reports whether the format is one that programs read.
func (f Format) ForPrograms() bool { return f == JSON || f == YAML }

// marshal writes JSON or YAML.
func (f Format) marshal(value any) (string, error) {
	if f == YAML {
		text, err := yaml.Marshal(value)
		return string(text), err
	}
	text, err := json.MarshalIndent(value, "", "  ")
	return escapeJSON(string(text)) + "\n", err
}

// marshalOne writes one document of several in a row.
func (f Format) marshalOne(d Document) (string, error) {
	if f == YAML {
		text, err := f.marshal(d)
		return "---\n" + text, err
	}
	line, err := json.Marshal(d)
	return escapeJSON(string(line)) + "\n", err
}

// escapeJSON escapes the characters in a JSON text that a terminal may act upon and encoding/json does not escape.
func escapeJSON(text string) string {
	var b strings.Builder
	for _, r := range text {
		if r == '\n' || unicode.IsPrint(r) {
			b.WriteRune(r)
			continue
		}
		for _, unit := range utf16.AppendRune(nil, r) {
			fmt.Fprintf(&b, `\u%04x`, unit)
		}
	}
	return b.String()
}
