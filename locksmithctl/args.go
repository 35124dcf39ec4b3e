package main

import (
	"strings"

	"github.com/locksmithd/locksmith/internal/config"
)

// longFlags returns the flags with long names, and whether each takes a value.
func longFlags() map[string]bool {
	flags := map[string]bool{"root": true, "output": true, "help": false, "version": false}
	for _, d := range config.Definitions() {
		if d.Flag != "" {
			flags[d.Flag] = !d.Switch
		}
	}
	return flags
}

// normalize rewrites a command line for cobra, which takes long flags with two
// dashes only, where the field writes one: -endpoint=URL becomes
// --endpoint=URL. It keeps the shorthands -o and -h, the values of flags and
// what comes after "--".
func normalize(args []string) []string {
	takesValue := longFlags()
	out := []string{} // not nil, for which cobra would take os.Args
	var rest []string // what is no flag, whatever it looks like
	command := ""
	for i := 0; i < len(args); i++ {
		arg := args[i]
		switch {
		case strings.HasPrefix(command, "__complete") && i == len(args)-1:
			out = append(out, arg) // cobra's own command gets the word that is being typed
		case arg == "--":
			rest = append(rest, args[i+1:]...)
			i = len(args)
		case !strings.HasPrefix(arg, "-") || arg == "-":
			if command == "" {
				command = arg
			}
			out = append(out, arg)
		case command == "set-max" && arg[1] >= '0' && arg[1] <= '9':
			rest = append(rest, arg) // -3 is a wrong number, not a flag
		default:
			name, _, hasValue := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(arg, "-"), "-"), "=")
			_, known := takesValue[name]
			shorthand := name != "" && (len(name) == 1 || name[0] == 'o' || name[0] == 'h')
			if !strings.HasPrefix(arg, "--") && (known || !shorthand) {
				arg = "-" + arg
			}
			out = append(out, arg)
			if (takesValue[name] || arg == "-o") && !hasValue && i+1 < len(args) {
				i++
				out = append(out, args[i])
			}
		}
	}
	if rest != nil {
		out = append(append(out, "--"), rest...)
	}
	return out
}
