// Command man writes the manual pages locksmithd(8), locksmithctl(1), update.conf(5) and
// locksmith-kubernetes(8), and locksmithctl's completions for bash, zsh and fish.
//
// The pages are templates in Markdown (*.md in this folder). They take commands and
// flags from the help of the two programs, settings from package config, and the
// description of settings from docs/configuration.md and docs/kubernetes.md. So a new flag
// or setting gets into them without a change here.
//
// Command man guarantees that the same sources and date give the same bytes. It
// fails on Markdown or help that it does not understand.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	"github.com/locksmithd/locksmith/internal/config"
)

func main() {
	var g generator
	flag.StringVar(&g.source, "source", ".", "`directory` of the checkout")
	flag.StringVar(&g.programs, "programs", "bin", "`directory` with locksmithd and locksmithctl")
	flag.StringVar(&g.version, "version", "dev", "`version` that the pages are for")
	flag.Int64Var(&g.date, "date", 0, "date of the pages, in `seconds` since 1970")
	out := flag.String("out", "bin/share", "`directory` to write to, as /usr/share")
	flag.Parse()
	if err := g.write(*out); err != nil {
		fmt.Fprintf(os.Stderr, "man: %v\n", err)
		os.Exit(1)
	}
}

type generator struct {
	source, programs, version string
	date                      int64
}

// write writes every page and completion below dir.
func (g generator) write(dir string) error {
	for _, page := range []string{"locksmithd.8", "locksmithctl.1", "update.conf.5", "locksmith-kubernetes.8"} {
		text, err := g.page(page)
		if err != nil {
			return fmt.Errorf("make %s: %w", page, err)
		}
		if err := writeFile(filepath.Join(dir, "man", "man"+page[len(page)-1:], page), text); err != nil {
			return err
		}
	}
	// The paths that Debian's shells search.
	for shell, path := range map[string]string{
		"bash": "bash-completion/completions/locksmithctl",
		"zsh":  "zsh/vendor-completions/_locksmithctl",
		"fish": "fish/vendor_completions.d/locksmithctl.fish",
	} {
		text, err := g.output("locksmithctl", "completion", shell)
		if err != nil {
			return err
		}
		if err := writeFile(filepath.Join(dir, path), text); err != nil {
			return err
		}
	}
	return nil
}

func writeFile(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

// page returns a page, by a name such as locksmithd.8, in the man(7) language.
func (g generator) page(name string) (string, error) {
	t, err := template.New(name + ".md").Funcs(template.FuncMap{
		"definitions":     config.Definitions,
		"daemonFlags":     g.daemonFlags,
		"command":         g.command,
		"section":         g.section,
		"settings":        g.settings,
		"kubernetesFlags": g.kubernetesFlags,
	}).ParseFiles(filepath.Join(g.source, "man", name+".md"))
	if err != nil {
		return "", err
	}
	var markdown strings.Builder
	if err := t.Execute(&markdown, nil); err != nil {
		return "", err
	}
	title, number := strings.ToUpper(name[:len(name)-2]), name[len(name)-1:]
	date := time.Unix(g.date, 0).UTC().Format(time.DateOnly)
	return roff(fmt.Sprintf(".TH %s %s %s \"locksmith %s\" \"locksmith\"\n", title, number, date, g.version), markdown.String())
}

// output returns the output of one of the two programs, run in an empty environment.
func (g generator) output(program string, args ...string) (string, error) {
	cmd := exec.Command(filepath.Join(g.programs, program), args...)
	cmd.Env = []string{}
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("run %s %s: %w", program, strings.Join(args, " "), err)
	}
	return string(out), nil
}
