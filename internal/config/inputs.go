package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/locksmithd/locksmith/internal/notify"
	"github.com/locksmithd/locksmith/internal/safetext"
	"github.com/locksmithd/locksmith/lock/etcd"
	"github.com/locksmithd/locksmith/systemd"
)

// inputs are the settings by name, merged from the fragments but not parsed yet.
type inputs map[string]input

// of returns the setting for an option for etcd.
func (in inputs) of(o etcd.Option) input { return in[o.String()] }

// input is a setting with the text that is in force.
type input struct {
	Definition
	value    string
	origin   Origin
	withheld string // the place of a secret of the daemon that locksmithctl does not take, or empty
}

// input returns the setting with a value that was found, or with the default if that is empty.
func (d Definition) input(value string, from Origin) input {
	if value == "" {
		value, from.Kind = d.Default, FromDefault
	}
	return input{Definition: d, value: value, origin: from}
}

// merge finds every setting. daemon is nil unless own are the fragments of locksmithctl, and those of locksmithd on
// its host are known. Notes are about settings that are checked.
func merge(own, daemon *fragments, o Options) (in inputs, notes []string) {
	in = inputs{}
	for _, d := range definitions {
		flag, given := own.flag(d)
		switch {
		case given:
			in[d.Name] = flag
		case daemon == nil:
			in[d.Name] = own.find(d)
		default:
			found, about := own.findOnHost(d, daemon, o.Service)
			in[d.Name] = found
			if o.Check&d.Part != 0 {
				notes = append(notes, about...)
			}
		}
	}
	in.preferPassword()
	return in, notes
}

// findOnHost finds a setting of locksmithctl that no flag sets: its own value, or else the daemon's. Notes say where
// the two differ, and which counts.
func (f *fragments) findOnHost(d Definition, daemon *fragments, service *systemd.Service) (in input, notes []string) {
	in = daemon.find(d)
	if d.Secret && in.value != "" && !slices.ContainsFunc(f.files, func(f environmentFile) bool { return f.path == in.origin.File }) {
		withheld := in.origin.place()
		in = d.input("", Origin{})
		in.withheld = withheld
	}
	for _, name := range d.variables() {
		v, ok := f.environ[d.inEnvironment(CLI, name)]
		own := d.input(v.value, v.origin)
		daemonHas := fmt.Sprintf("locksmithd has %q (%s)", in.shown(), in.origin)
		switch {
		case ok && d.Flag: // it is for locksmithctl alone
			return own, nil
		case !ok || v.value == in.value:
		case d.Part == PartWindow:
			notes = append(notes, fmt.Sprintf("%s does not count, since the window is locksmithd's: %s", own.subject(), daemonHas))
		default:
			return own, append(notes, fmt.Sprintf("%s counts for this command; %s", own.subject(), daemonHas))
		}
	}
	if in.origin != (Origin{Kind: FromDefault}) || in.withheld != "" {
		return in, notes
	}
	if credential, ok := f.credential(d); ok {
		return credential, notes
	}
	if from := service.Credentials[d.Credential]; from != "" {
		in.withheld = fmt.Sprintf("credential %s of %s", d.Credential, from)
	}
	return in, notes
}

// Kind tells the kinds of an Origin apart.
type Kind string

// The places a setting can come from, strongest first.
const (
	FromFlag        Kind = "flag"
	FromEnvironment Kind = "environment"
	FromUnit        Kind = "unit"
	FromFile        Kind = "file"
	FromCredential  Kind = "credential"
	FromDefault     Kind = "default"
)

// Origin is where the value of a setting comes from.
type Origin struct {
	Kind Kind
	// Name is the flag, with its dash, the variable, or the credential. With FromDefault it is empty, unless the
	// default is in force because of an empty value: then Name, File and Line are those of that value.
	Name string
	// File and Line (from 1) are empty unless the value comes from a file. With FromUnit, File is one of the unit's
	// files, and there is no Line.
	File string
	Line int
}

// String returns the place as one text: "flag -group", "environment LOCKSMITHD_GROUP", "drop-in 10-group.conf",
// "/etc/flatcar/update.conf:3", "credential locksmithd.etcd-key" or "default".
func (o Origin) String() string {
	switch {
	case o.Kind == FromFile, o.Kind == FromUnit:
		return o.place()
	case o.Kind == FromDefault && o.Name == "":
		return "default"
	case o.Kind == FromDefault:
		return fmt.Sprintf("default, because %s is empty (%s)", o.Name, o.place())
	}
	return string(o.Kind) + " " + o.Name
}

// place returns the place without the name.
func (o Origin) place() string {
	switch {
	case o.File != "" && o.Line == 0:
		return o.File
	case o.File != "":
		return fmt.Sprintf("%s:%d", o.File, o.Line)
	case strings.HasPrefix(o.Name, "-"):
		return "command line"
	case o.Kind == FromCredential:
		return string(FromCredential)
	}
	return "environment"
}

// maxShown bounds, in bytes, how much of a wrong value an error repeats.
const maxShown = 100

// refuse returns an error that names the setting, its value and its place, and says what is wrong.
func (in input) refuse(format string, args ...any) error {
	return fmt.Errorf("%s: %w", in.subject(), fmt.Errorf(format, args...))
}

// subject names the setting: `REBOOT_STRATEGY="on" (/etc/flatcar/update.conf:3)`.
func (in input) subject() string {
	value := in.shown()
	if value != safetext.Hidden {
		value = fmt.Sprintf("%q", shorten(value, maxShown))
	}
	return fmt.Sprintf("%s=%s (%s)", cmp.Or(in.origin.Name, in.Variable), value, in.origin.place())
}

func shorten(text string, most int) string {
	if len(text) > most {
		return text[:most] + "..."
	}
	return text
}

// shown returns the value as it may be shown.
func (in input) shown() string {
	if in.Secret && in.URL {
		return notify.URL(in.value).String()
	}
	if in.value != "" && (in.Secret || in.URL && strings.Contains(in.value, "@")) {
		return safetext.Hidden
	}
	return in.value
}

// called returns what messages of package etcd call the setting: how it is set, or where it could be. It has no
// line number, because the connection to etcd need not change when another line of the file does.
func (in input) called() string {
	switch o := in.origin; {
	case o.Kind == FromDefault:
		return in.Variable + " in " + settingsFiles()[0]
	case o.Kind == FromFlag:
		return o.Name
	case o.Kind == FromFile:
		return o.Name + " in " + o.File
	default:
		return o.String()
	}
}
