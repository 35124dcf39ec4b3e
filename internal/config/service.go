package config

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/locksmithd/locksmith/systemd"
)

// AddFlags adds the flags for settings to flags. Those that are given are appended to given.
func AddFlags(flags *flag.FlagSet, given *[]Flag) {
	for _, d := range Definitions() {
		if d.Flag == "" {
			continue
		}
		set := func(value string) error {
			*given = append(*given, Flag{Name: d.Flag, Value: value})
			return nil
		}
		usage := fmt.Sprintf("%s (%s)", d.Description, d.Variable)
		if d.Switch {
			flags.BoolFunc(d.Flag, usage, set)
		} else {
			flags.Func(d.Flag, usage, set)
		}
	}
}

// daemonOnHost is the Loader of the daemon as systemd starts it on this host. Warnings are about what is
// not as the daemon needs it. An error names what cannot be read, and may be set there.
func daemonOnHost(o Options) (l *Loader, warnings []string, err error) {
	environ, warnings, err := serviceEnvironment(o.Service, o.Root)
	if err != nil {
		return nil, nil, err
	}
	l = &Loader{options: Options{Program: Daemon, Root: o.Root, Warn: o.Warn}, environ: map[string]string{}, origins: map[string]Origin{}}
	for name, v := range environ {
		l.environ[name], l.origins[name] = v.value, v.origin
	}
	if c := o.Service.Command; len(c) > 0 && filepath.Base(c[0]) == string(Daemon) { // not a script around it
		flags := flag.NewFlagSet("", flag.ContinueOnError)
		flags.SetOutput(io.Discard)
		AddFlags(flags, &l.options.Flags)
		flags.String("root", "", "")
		flags.Bool("version", false, "")
		l.flagsFrom = o.Service.Origin("")
		if err := flags.Parse(replaceVariables(c[1:], l.environ)); err != nil {
			warnings = append(warnings, fmt.Sprintf("%s: locksmithd does not start with these flags: %v", l.flagsFrom, err))
		}
	}
	return l, warnings, nil
}

// variable is one of the environment.
type variable struct {
	value  string
	origin Origin
}

// serviceEnvironment returns the environment that systemd makes for a service, see
// "Environment" in systemd.exec(5).
func serviceEnvironment(s *systemd.Service, root string) (environ map[string]variable, warnings []string, err error) {
	environ = map[string]variable{}
	set := func(entries []string, origin func(name string) string) {
		for _, entry := range entries {
			name, value, _ := strings.Cut(entry, "=")
			environ[name] = variable{value, Origin{Kind: FromUnit, Name: name, File: origin(name)}}
		}
	}
	set(s.ManagerEnvironment, func(string) string { return "environment of systemd" })
	set(s.Environment, s.Origin)
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
				warnings = append(warnings, fmt.Sprintf("EnvironmentFile=%s is missing, and so systemd does not start locksmithd", file.Path))
			}
			continue
		}
		for _, path := range paths {
			f, err := readEnvironmentFile(path)
			switch {
			case errors.Is(err, fs.ErrPermission):
				errs = append(errs, unreadable(err))
			case err != nil && file.Optional:
				warnings = append(warnings, fmt.Sprintf("%v: systemd passes the whole file over", err))
			case err != nil:
				warnings = append(warnings, fmt.Sprintf("%v, and so systemd does not start locksmithd", err))
			}
			for _, a := range f.assignments {
				environ[a.name] = variable{a.value, Origin{Kind: FromFile, Name: a.name, File: path, Line: a.line}}
			}
		}
	}
	for _, unset := range s.UnsetEnvironment {
		name, value, exactly := strings.Cut(unset, "=")
		if v, ok := environ[name]; ok && (!exactly || v.value == value) {
			delete(environ, name)
		}
	}
	known := newVocabulary()
	for _, name := range s.PassEnvironment {
		if _, ok := environ[name]; !ok && known.has(name) {
			warnings = append(warnings, fmt.Sprintf("locksmithd may have %s from the environment that systemd was started with, by PassEnvironment=, which is not known here", name))
		}
	}
	return environ, warnings, errors.Join(errs...)
}

func unreadable(err error) error {
	return fmt.Errorf("%w: locksmithd has settings from there, perhaps other ones than are known here: run it with sudo", err)
}

// replaceVariables replaces variables in the arguments of a command, see "Command lines" in
// systemd.service(5): ${NAME} anywhere, $NAME as a whole argument, which becomes as many as it has words.
func replaceVariables(args []string, environ map[string]string) []string {
	var replaced []string
	for _, arg := range args {
		if name, ok := strings.CutPrefix(arg, "$"); ok && validName(name) {
			replaced = append(replaced, strings.Fields(environ[name])...)
			continue
		}
		var b strings.Builder
		for {
			before, after, found := strings.Cut(arg, "$")
			b.WriteString(before)
			if !found {
				break
			}
			name, rest, closed := strings.Cut(strings.TrimPrefix(after, "{"), "}")
			switch {
			case strings.HasPrefix(after, "$"):
				b.WriteByte('$')
				arg = after[1:]
			case strings.HasPrefix(after, "{") && closed && validName(name):
				b.WriteString(environ[name])
				arg = rest
			default:
				b.WriteByte('$')
				arg = after
			}
		}
		replaced = append(replaced, b.String())
	}
	return replaced
}

// resolveOnHost finds the value of a setting for locksmithctl on a host whose daemon is known:
// what locksmithctl has of its own, or else the daemon's.
func (l *Loader) resolveOnHost(d Definition, files confFiles) resolved {
	r := l.daemon.resolve(d, files)
	if d.Secret && r.value != "" && !slices.ContainsFunc(files, func(f confFile) bool { return f.path == r.origin.File }) {
		withheld := r.origin.place()
		r = d.resolved("", Origin{})
		r.withheld = withheld
	}
	if d.CLIVariable != "" {
		if value, ok := l.environ[d.CLIVariable]; ok {
			return d.resolved(value, Origin{Kind: FromEnvironment, Name: d.CLIVariable})
		}
	}
	for _, name := range d.variables() {
		value, ok := l.environ[name]
		if !ok || d.CLIVariable != "" || value == r.value {
			continue
		}
		own := d.resolved(value, Origin{Kind: FromEnvironment, Name: name})
		daemon := fmt.Sprintf("locksmithd has %q (%s)", r.shown(), r.origin)
		if d.part() == PartWindow {
			l.note(d, "%s does not count, since the window is locksmithd's: %s", own.subject(), daemon)
			continue
		}
		l.note(d, "%s counts for this command; %s", own.subject(), daemon)
		return own
	}
	if r.origin != (Origin{Kind: FromDefault}) || r.withheld != "" {
		return r
	}
	if path := l.credential(d.Credential); path != "" {
		return d.resolved(path, Origin{Kind: FromCredential, Name: d.Credential})
	}
	if from := l.options.Service.CredentialOrigin(d.Credential); from != "" {
		r.withheld = fmt.Sprintf("credential %s of %s", d.Credential, from)
	}
	return r
}

// note keeps a sentence for whoever uses the setting.
func (l *Loader) note(d Definition, format string, args ...any) {
	if l.options.Check&d.part() != 0 {
		l.notes = append(l.notes, fmt.Sprintf(format, args...))
	}
}

// part returns the part that the setting is checked with.
func (d Definition) part() Part {
	switch d.Name {
	case nameStrategy:
		return PartStrategy
	case nameWindowStart, nameWindowLength, nameWindowTimezone:
		return PartWindow
	case nameMax, nameLockTTL:
		return PartLock
	case nameTriggerGroups:
		return PartTrigger
	case nameLoginDelay, nameLoginRetry, nameMaxPostpone:
		return PartLogin
	}
	return PartEtcd
}
