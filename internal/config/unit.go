package config

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/locksmithd/locksmith/systemd"
)

// daemonOnHost returns the fragments of the daemon as systemd starts it on this host. Warnings say what keeps it from
// starting. An error names a file that cannot be read, and may have settings.
func daemonOnHost(o Options, files confFiles) (f *fragments, warnings []string, err error) {
	environ, warnings, err := serviceEnvironment(o.Service, o.Root)
	if err != nil {
		return nil, nil, err
	}
	f = &fragments{program: Daemon, environ: environ, files: files}
	if c := o.Service.Command; len(c) > 0 && filepath.Base(c[0]) == string(Daemon) { // not a script around it
		flags := flag.NewFlagSet("", flag.ContinueOnError)
		flags.SetOutput(io.Discard)
		AddFlags(flags, &f.flags)
		flags.String("root", "", "")
		flags.Bool("version", false, "")
		f.unit = o.Service.Origins[""]
		if err := flags.Parse(replaceVariables(c[1:], environ)); err != nil {
			warnings = append(warnings, fmt.Sprintf("%s: locksmithd does not start with these flags: %v", f.unit, err))
		}
	}
	f.leaveToFiles()
	return f, warnings, nil
}

// serviceEnvironment returns the environment that systemd makes for a service, see "Environment" in systemd.exec(5).
func serviceEnvironment(s *systemd.Service, root string) (environ map[string]variable, warnings []string, err error) {
	environ = map[string]variable{}
	for _, entry := range s.ManagerEnvironment {
		name, value, _ := strings.Cut(entry, "=")
		environ[name] = variable{value, Origin{Kind: FromUnit, Name: name, File: "environment of systemd"}}
	}
	for _, entry := range s.Environment {
		name, value, _ := strings.Cut(entry, "=")
		environ[name] = variable{value, Origin{Kind: FromUnit, Name: name, File: s.Origins[name]}}
	}
	var errs []error
	for _, file := range s.EnvironmentFiles {
		pattern := filepath.Join(root, file.Path)
		paths, err := filepath.Glob(pattern)
		if err != nil || len(paths) == 0 {
			_, err := os.Stat(pattern)
			if strings.ContainsAny(file.Path, "*?[") { // Glob passes over a folder that it cannot read
				_, err = os.ReadDir(filepath.Dir(pattern))
			}
			if errors.Is(err, fs.ErrPermission) {
				errs = append(errs, unreadable(err))
			} else if !file.Optional {
				warnings = append(warnings, fmt.Sprintf("EnvironmentFile=%s is missing, so systemd does not start locksmithd", file.Path))
			}
			continue
		}
		for _, path := range paths {
			f, err := readEnvironmentFile(path)
			switch {
			case errors.Is(err, fs.ErrPermission):
				errs = append(errs, unreadable(err))
			case err != nil && file.Optional:
				warnings = append(warnings, fmt.Sprintf("%v: systemd ignores the whole file", err))
			case err != nil:
				warnings = append(warnings, fmt.Sprintf("%v, so systemd does not start locksmithd", err))
			}
			for _, a := range f.assignments {
				environ[a.name] = variable{a.value, Origin{Kind: FromFile, Name: a.name, File: path, Line: a.line}}
			}
		}
	}
	for _, unset := range s.UnsetEnvironment {
		name, value, exactly := strings.Cut(unset, "=")
		if !exactly || environ[name].value == value {
			delete(environ, name)
		}
	}
	vocabulary := newVocabulary()
	for _, name := range s.PassEnvironment {
		if _, ok := environ[name]; !ok && vocabulary.has(name) {
			warnings = append(warnings, fmt.Sprintf("locksmithd may have %s from the environment that systemd was started with, by PassEnvironment=, which is not known here", name))
		}
	}
	return environ, warnings, errors.Join(errs...)
}

func unreadable(err error) error {
	return fmt.Errorf("%w: locksmithd may have settings from there, which this user cannot read: run the command with sudo", err)
}

// replaceVariables replaces variables in the arguments of a command, see "Command lines" in systemd.service(5):
// ${NAME} anywhere, $$ for a dollar sign, and $NAME as a whole argument, which becomes an argument for each of its
// words.
func replaceVariables(args []string, environ map[string]variable) []string {
	inside := regexp.MustCompile(`\$\$|\$\{[A-Za-z_][A-Za-z0-9_]*\}`)
	var replaced []string
	for _, arg := range args {
		if name, ok := strings.CutPrefix(arg, "$"); ok && systemd.VariableName(name) {
			replaced = append(replaced, strings.Fields(environ[name].value)...)
			continue
		}
		replaced = append(replaced, inside.ReplaceAllStringFunc(arg, func(found string) string {
			if found == "$$" {
				return "$"
			}
			return environ[strings.Trim(found, "${}")].value
		}))
	}
	return replaced
}
