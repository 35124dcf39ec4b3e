package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/locksmithd/locksmith/lock"
)

func (a *app) statusCommand() *cobra.Command {
	format := formatFlag("text")
	cmd := &cobra.Command{
		Use:   "status [-o FORMAT]",
		Short: "Show who holds the lock",
		Long: `status shows how many slots the lock has and how many are free, and the machine ids
of those who hold one. The lock is created, with one slot, if it does not exist.

The fields of -o json and -o yaml, to which later versions may add others:

  group      the group of hosts, "" for the default one
  available  number of free slots, below 0 after set-max below the number of holders
  max        number of slots
  holders    who holds a slot, in the order of their ids; [] for nobody
    id       machine id`,
		Args: takes(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withLock(func(s session) error {
				semaphore, err := s.Status(cmd.Context())
				if err != nil {
					return s.explain(err, "the lock may have been created")
				}
				text, err := format.render(s.settings.Group, semaphore)
				if err != nil {
					return err
				}
				return a.print(text)
			})
		},
	}
	cmd.Flags().VarP(&format, "output", "o", "format: text, json or yaml")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"text", "json", "yaml"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// formatFlag is the value of -output.
type formatFlag string

func (f *formatFlag) Set(value string) error {
	switch value {
	case "text", "json", "yaml":
		*f = formatFlag(value)
		return nil
	}
	return errors.New("write text, json or yaml")
}

func (f *formatFlag) String() string { return string(*f) }

func (f *formatFlag) Type() string { return "FORMAT" }

// report is what scripts read. Fields may be added, and stay what they are.
type report struct {
	Group     string   `json:"group" yaml:"group"`
	Available int      `json:"available" yaml:"available"`
	Max       int      `json:"max" yaml:"max"`
	Holders   []holder `json:"holders" yaml:"holders"`
}

type holder struct {
	ID string `json:"id" yaml:"id"`
}

func (f *formatFlag) render(group string, s lock.Semaphore) (string, error) {
	if *f == "text" {
		return statusText(s), nil
	}
	r := report{Group: group, Available: s.Free, Max: s.Max, Holders: []holder{}}
	for _, id := range s.Holders {
		r.Holders = append(r.Holders, holder{ID: id})
	}
	if *f == "yaml" {
		text, err := yaml.Marshal(r)
		return string(text), err
	}
	text, err := json.MarshalIndent(r, "", "  ")
	return escapeJSON(string(text)) + "\n", err
}

func statusText(s lock.Semaphore) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Available: %d\nMax: %d\n", s.Free, s.Max)
	if len(s.Holders) > 0 {
		b.WriteString("\nMACHINE ID\n")
	}
	for _, id := range s.Holders {
		b.WriteString(printable(id) + "\n")
	}
	return b.String()
}

// escapeJSON escapes the characters in a JSON text that encoding/json leaves
// alone though a terminal may act upon them.
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
