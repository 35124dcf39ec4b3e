package view

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode"
	"unicode/utf16"

	"go.yaml.in/yaml/v3"

	"github.com/locksmithd/locksmith/internal/safetext"
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
		return marshalYAML(value)
	}
	text, err := json.MarshalIndent(value, "", "  ")
	return escapeJSON(string(text)) + "\n", err
}

// marshalOne writes one document of several in a row.
func (f Format) marshalOne(d any) (string, error) {
	if f == YAML {
		text, err := f.marshal(d)
		return "---\n" + text, err
	}
	line, err := json.Marshal(d)
	return escapeJSON(string(line)) + "\n", err
}

// marshalYAML writes YAML, and escapes the characters that a terminal may act upon and yaml does not escape.
func marshalYAML(value any) (string, error) {
	text, err := yaml.Marshal(value)
	if err != nil || !strings.ContainsFunc(string(text), isUnprintable) {
		return string(text), err
	}
	var document yaml.Node // takes twice as long, so only where it is needed
	if err := document.Encode(value); err != nil {
		return "", err
	}
	quoteUnprintable(&document)
	text, err = yaml.Marshal(&document)
	lines := strings.Split(string(text), "\n")
	for i := range lines {
		lines[i] = safetext.Cut(lines[i], math.MaxInt) // Go's escapes are those of YAML, too
	}
	return strings.Join(lines, "\n"), err
}

// quoteUnprintable puts the values that need escapes into double quotes, where YAML has them.
func quoteUnprintable(n *yaml.Node) {
	if strings.ContainsFunc(n.Value, isUnprintable) {
		n.Style = yaml.DoubleQuotedStyle
	}
	for _, child := range n.Content {
		quoteUnprintable(child)
	}
}

func isUnprintable(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }

// escapeJSON escapes the characters in a JSON text that a terminal may act upon and encoding/json does not escape.
func escapeJSON(text string) string {
	if !strings.ContainsFunc(text, func(r rune) bool { return r != '\n' && (r < ' ' || r > '~') }) {
		return text
	}
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
