package main

import (
	"fmt"
	"regexp"
	"strings"
)

// help is the help of locksmithctl or of one of its commands.
type help struct {
	Name     string
	Long     string // Markdown
	Usage    string // the line below "Usage:"
	Flags    string // a list in Markdown
	Commands []help // a command's own ones have only Name and Long, which is one line
}

var (
	// "  -o, -output FORMAT   format: text, wide, json or yaml (default text)"
	flagLine = regexp.MustCompile(`^ +((?:-\w, )?-[a-z0-9-]+(?: [A-Za-z]+)?)   +(\S.*)$`)
	// "  set-max           Set how many hosts may hold the lock at once"
	commandLine = regexp.MustCompile(`^  ([a-z-]+)  +(\S.*)$`)
	// "  -group value\n    \tgroup of hosts that share a lock (LOCKSMITHD_GROUP)"
	daemonFlag = regexp.MustCompile(`(?m)^  (-[a-z0-9-]+(?: [a-z]+)?)\n    \t(\S.*)$`)
)

// command returns the help of a command of locksmithctl or, without a name, that of
// locksmithctl and all its commands.
func (g generator) command(name ...string) (help, error) {
	text, err := g.output("locksmithctl", append([]string{"help"}, name...)...)
	if err != nil {
		return help{}, err
	}
	h := help{Name: strings.Join(name, " ")}
	long, rest, _ := strings.Cut(text, "\n\nUsage:\n")
	h.Long = indentMore(long)
	part := "Usage:"
	for line := range strings.Lines(rest) {
		line = strings.TrimSuffix(line, "\n")
		command, flag := commandLine.FindStringSubmatch(line), flagLine.FindStringSubmatch(line)
		switch {
		case line == "" || strings.HasPrefix(line, `"locksmithctl help"`) || h.Name != "" && strings.HasPrefix(line, "  -h, -help "):
		case line == "Commands:" || line == "Flags:":
			part = line
		case part == "Usage:":
			h.Usage = strings.TrimSpace(line)
		case part == "Commands:" && command != nil:
			h.Commands = append(h.Commands, help{Name: command[1], Long: command[2]})
		case part == "Flags:" && flag != nil:
			h.Flags += item(flag[1], flag[2])
		default:
			return help{}, fmt.Errorf("the help for %q has an unexpected line: %q", h.Name, line)
		}
	}
	if len(name) > 0 {
		return h, nil
	}
	for i, c := range h.Commands {
		if h.Commands[i], err = g.command(c.Name); err != nil {
			return help{}, err
		}
	}
	return h, nil
}

// daemonFlags returns the flags in the help of locksmithd, as a list in Markdown.
func (g generator) daemonFlags() (string, error) {
	text, err := g.output("locksmithd", "-help")
	if err != nil {
		return "", err
	}
	_, flags, _ := strings.Cut(text, "\n\n  -")
	list := ""
	for _, m := range daemonFlag.FindAllStringSubmatch("  -"+flags, -1) {
		list += item(m[1], m[2])
	}
	if want := strings.Count("\n  -"+flags, "\n  -"); strings.Count(list, "\n: ") != want {
		return "", fmt.Errorf("the help of locksmithd has %d flags, some in an unexpected form:\n%s", want, text)
	}
	return list, nil
}

// item is a term and its meaning, as an item of a list in Markdown.
func item(term, meaning string) string { return fmt.Sprintf("`%s`\n: %s\n\n", term, meaning) }

// indentMore turns the lines of a help text that are indented into literal text.
func indentMore(text string) string { return strings.ReplaceAll(text, "\n  ", "\n    ") }
