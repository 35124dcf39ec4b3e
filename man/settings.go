package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/locksmithd/locksmith/internal/config"
)

// section returns the text of docs/configuration.md below a heading, up to the next heading.
func (g generator) section(heading string) (string, error) {
	rest, err := g.configuration(heading)
	if err != nil {
		return "", err
	}
	text, literal := "", false
	for line := range strings.Lines(rest) {
		if strings.HasPrefix(line, "```") {
			literal = !literal
		}
		if strings.HasPrefix(line, "#") && !literal {
			break
		}
		text += line
	}
	return text, nil
}

// configuration returns the text of docs/configuration.md from below a heading to the end.
func (g generator) configuration(heading string) (string, error) {
	data, err := os.ReadFile(filepath.Join(g.source, "docs", "configuration.md"))
	if err != nil {
		return "", err
	}
	_, after, found := strings.Cut(string(data), "# "+heading+"\n")
	if !found {
		return "", fmt.Errorf("docs/configuration.md has no section %q", heading)
	}
	return after, nil
}

// settings returns a chapter for every setting: its names from the definitions, its meaning from
// docs/configuration.md.
func (g generator) settings() (string, error) {
	rest, err := g.configuration("The settings")
	if err != nil {
		return "", err
	}
	rest, _, _ = strings.Cut(rest, "\n## ")
	definitions := config.Definitions()
	text := ""
	for _, chapter := range strings.Split(rest, "\n### ")[1:] {
		heading, body, _ := strings.Cut(chapter, "\n")
		title, names := []string{}, ""
		for _, name := range strings.Split(heading, ", ") {
			i := slices.IndexFunc(definitions, func(d config.Definition) bool { return d.Name == name })
			if i < 0 {
				return "", fmt.Errorf("docs/configuration.md has a section on %q, which is not a setting", name)
			}
			title = append(title, definitions[i].Variable)
			names += item(name, places(definitions[i]))
			definitions = slices.Delete(definitions, i, i+1)
		}
		text += fmt.Sprintf("## %s\n\n%s%s\n", strings.Join(title, ", "), names, body)
	}
	if len(definitions) > 0 {
		return "", fmt.Errorf("docs/configuration.md has no section on %q", definitions[0].Name)
	}
	// A link to a section of the document leads nowhere in a man page.
	return regexp.MustCompile(`\[([^\]]+)\]\(#[^)]+\)`).ReplaceAllString(text, "$1"), nil
}

// places says where a setting may come from.
func places(d config.Definition) string {
	text := "`" + d.Variable + "`"
	if d.Prefixed != "" {
		text += " or `" + d.Prefixed + "`"
	}
	if d.Fallback != "" {
		text += ", else `" + d.Fallback + "`"
	}
	if d.Flag {
		text += ", in the environment of `locksmithctl` `" + d.CLIVariable() + "`, flag `-" + d.Name + "`"
	}
	return text
}
