package main

import (
	"bytes"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// longFlags returns the long flags of a command and of those below it, by name, and whether each takes a value.
func longFlags(cmd *cobra.Command) map[string]bool {
	flags := map[string]bool{"help": false} // cobra adds it later
	var visit func(*cobra.Command)
	visit = func(cmd *cobra.Command) {
		for _, set := range []*pflag.FlagSet{cmd.PersistentFlags(), cmd.Flags()} {
			set.VisitAll(func(f *pflag.Flag) { flags[f.Name] = f.NoOptDefVal == "" })
		}
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
	}
	visit(cmd)
	return flags
}

// normalize rewrites a command line for cobra, which takes long flags with two dashes only, while they are documented
// and used with one: -endpoint=URL becomes --endpoint=URL. The shorthands -o and -h, the values of flags and all that
// follows "--" stay. takesValue has the long flags.
func normalize(args []string, takesValue map[string]bool) []string {
	out := []string{} // not nil, for which cobra would take os.Args
	var rest []string // not flags, whatever they look like
	command := ""
	for i := 0; i < len(args); i++ {
		arg := args[i]
		switch {
		case strings.HasPrefix(command, "__complete") && i == len(args)-1:
			if oneDash(arg) && arg != "-" {
				arg = "-" + arg
			}
			out = append(out, arg) // the word that is being typed: an argument of cobra's __complete
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

// oneDash reports whether a word that is being typed is, or may become, a long flag with one dash, which cobra would
// take for shorthands.
func oneDash(word string) bool {
	return strings.HasPrefix(word, "-") && !strings.HasPrefix(word, "--") && word != "-o" && word != "-h"
}

// completesOneDash reports whether a shell asks for completions of such a word, the last one.
func completesOneDash(args []string) bool {
	completing := slices.ContainsFunc(args, func(arg string) bool { return strings.HasPrefix(arg, "__complete") })
	return completing && oneDash(args[len(args)-1])
}

// oneDashWriter removes one of the two dashes before each flag that cobra offers: a shell drops offers that do not
// begin with the word that was typed. Cobra writes line by line.
type oneDashWriter struct{ io.Writer }

func (w oneDashWriter) Write(line []byte) (int, error) {
	short, found := bytes.CutPrefix(line, []byte("--"))
	if !found {
		return w.Writer.Write(line)
	}
	if _, err := w.Writer.Write(append([]byte("-"), short...)); err != nil {
		return 0, err
	}
	return len(line), nil
}
