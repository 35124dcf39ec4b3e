package config

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Flag is a command line flag that was given, by its name without dashes.
type Flag struct{ Name, Value string }

// AddFlags adds the flags for settings to flags. Those that are given are appended to given.
func AddFlags(flags *flag.FlagSet, given *[]Flag) {
	for _, d := range definitions {
		if !d.Flag {
			continue
		}
		set := func(value string) error {
			*given = append(*given, Flag{Name: d.Name, Value: value})
			return nil
		}
		usage := fmt.Sprintf("%s (%s)", d.Description, d.Variable)
		if d.Switch {
			flags.BoolFunc(d.Name, usage, set)
		} else {
			flags.Func(d.Name, usage, set)
		}
	}
}

// packageFile is the file that comes with a package.
const packageFile = "/usr/lib/locksmith/locksmith.conf"

// settingsFiles returns the paths of the configuration files, strongest first. A host may set variables in each: those
// in /etc are its administrator's, the others come with the operating system and with the package.
func settingsFiles() []string {
	return []string{
		"/etc/locksmith/locksmith.conf", "/etc/flatcar/update.conf",
		"/usr/share/flatcar/update.conf", packageFile,
	}
}

// fragments are the sources of one program's settings, each as it was found.
type fragments struct {
	program Program
	flags   []Flag
	unit    string // the unit file that has the flags, or empty for a command line
	environ map[string]variable
	files   confFiles
}

// variable is the value of a variable, and where it was set.
type variable struct {
	value  string
	origin Origin
}

// environment returns the variables of entries as os.Environ returns them.
func environment(entries []string) map[string]variable {
	environ := map[string]variable{}
	for _, entry := range entries {
		name, value, _ := strings.Cut(entry, "=")
		if _, ok := environ[name]; !ok { // the first one counts, as for getenv(3)
			environ[name] = variable{value, Origin{Kind: FromEnvironment, Name: name}}
		}
	}
	return environ
}

// leaveToFiles removes from the environment what systemd put there from the files.
func (f *fragments) leaveToFiles() {
	maps.DeleteFunc(f.environ, func(name string, v variable) bool {
		inFile, ok := f.files.lookup(name)
		return ok && inFile.value == v.value
	})
}

// find returns the setting with the strongest value that the fragments have for it, or its default.
func (f *fragments) find(d Definition) input {
	if in, ok := f.flag(d); ok {
		return in
	}
	unset := d.input("", Origin{})
	for _, name := range d.variables() {
		v, ok := f.environ[d.inEnvironment(f.program, name)]
		if !ok {
			v, ok = f.files.lookup(name)
		}
		switch {
		case ok && v.value != "":
			return d.input(v.value, v.origin)
		case ok && unset.origin.Name == "": // an empty value hides weaker ones
			unset = d.input("", v.origin)
		}
	}
	if in, ok := f.credential(d); ok && unset.origin.Name == "" {
		return in
	}
	return unset
}

// flag returns the setting with the value of its flag, if that was given.
func (f *fragments) flag(d Definition) (input, bool) {
	var given []string
	for _, g := range f.flags {
		if d.Flag && g.Name == d.Name {
			given = append(given, g.Value)
		}
	}
	if len(given) == 0 {
		return input{}, false
	}
	if !d.List {
		given = given[len(given)-1:]
	}
	from := Origin{Kind: FromFlag, Name: "-" + d.Name}
	if f.unit != "" {
		from.Kind, from.File = FromUnit, f.unit
	}
	return d.input(strings.Join(given, ","), from), true
}

// credential returns the setting with the path of its credential, if systemd has that for this process, see
// systemd.exec(5).
func (f *fragments) credential(d Definition) (input, bool) {
	dir := f.environ["CREDENTIALS_DIRECTORY"].value
	if dir == "" || d.Credential == "" {
		return input{}, false
	}
	path := filepath.Join(dir, d.Credential)
	_, err := os.Stat(path)
	return d.input(path, Origin{Kind: FromCredential, Name: d.Credential}), !errors.Is(err, fs.ErrNotExist)
}

// confFiles are the configuration files, strongest first.
type confFiles []environmentFile

func readFiles(root string) (confFiles, error) {
	var files confFiles
	var errs []error
	for _, path := range settingsFiles() {
		f, err := readEnvironmentFile(filepath.Join(root, path))
		files, errs = append(files, f), append(errs, err)
	}
	return files, errors.Join(errs...)
}

// lookup returns the strongest value of a variable.
func (files confFiles) lookup(name string) (variable, bool) {
	for _, f := range files {
		for _, a := range slices.Backward(f.assignments) {
			if a.name == name {
				return variable{a.value, Origin{Kind: FromFile, Name: name, File: f.path, Line: a.line}}, true
			}
		}
	}
	return variable{}, false
}
