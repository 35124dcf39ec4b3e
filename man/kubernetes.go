package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// kubernetesFlags returns the flags of locksmith-kubernetes, of the table in docs/kubernetes.md, as a list in Markdown.
// (Its help is not asked, because the program takes minutes to build.)
func (g generator) kubernetesFlags() (string, error) {
	data, err := os.ReadFile(filepath.Join(g.source, "docs", "kubernetes.md"))
	if err != nil {
		return "", err
	}
	_, section, _ := strings.Cut(string(data), "\n## Settings\n")
	section, _, _ = strings.Cut(section, "\n## ")
	list := ""
	for line := range strings.Lines(section) {
		if !strings.HasPrefix(line, "| `--") {
			continue
		}
		cells := strings.Split(line, "|")
		if len(cells) != 6 { // with what is before the first and after the last column
			return "", fmt.Errorf("this flag in docs/kubernetes.md does not have four columns: %q", line)
		}
		about := strings.TrimSpace(cells[2])
		if value := strings.TrimSpace(cells[3]); value != "" {
			about += ", default: " + value
		}
		list += item(strings.Trim(cells[1], " `"), fmt.Sprintf("(%s) %s", about, strings.TrimSpace(cells[4])))
	}
	if list == "" {
		return "", errors.New("docs/kubernetes.md has no section \"Settings\" with a table of flags")
	}
	return list, nil
}
