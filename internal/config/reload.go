package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// lost refuses a reload that would drop settings in force which nobody meant to drop. A file that is missing or
// empty may be about to be written again, and a host that forgets its lock meanwhile reboots at once. Taking a
// single setting out of a file is meant, except for the strategy: without one there is no lock.
func lost(inForce, in inputs, files confFiles) error {
	var errs []error
	strategyLost := false
	for i, f := range files {
		if len(f.assignments) > 0 {
			continue
		}
		var names []string
		for name, was := range inForce {
			is := in[name]
			weaker := is.origin.Kind == FromDefault || slices.ContainsFunc(files[i+1:], func(f confFile) bool { return f.path == is.origin.File })
			if was.origin.Kind == FromFile && was.origin.File == f.path && weaker && is.value != was.value {
				names = append(names, was.origin.Name)
				strategyLost = strategyLost || name == nameStrategy
			}
		}
		if len(names) == 0 {
			continue
		}
		state := "has no settings any more"
		if f.missing {
			state = "is missing"
		}
		slices.Sort(names)
		errs = append(errs, fmt.Errorf("%s %s, and %s came from it: write into it what is meant, such as REBOOT_STRATEGY=%s to reboot without a lock, or restart locksmithd to go on without the file",
			f.path, state, strings.Join(names, ", "), StrategyReboot))
	}
	was, is := inForce[nameStrategy], in[nameStrategy]
	if !strategyLost && was.value == string(StrategyEtcdLock) && is.origin.Kind == FromDefault {
		state := "is not set any more"
		if is.origin.Name != "" {
			state = "is empty (" + is.origin.place() + ")"
		}
		errs = append(errs, fmt.Errorf("%s %s, and was %s: without it this host would reboot without a lock: if that is meant, write %[1]s=%[4]s",
			is.Variable, state, was.value, StrategyReboot))
	}
	return errors.Join(errs...)
}
