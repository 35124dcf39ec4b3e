package main

import (
	"os"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/locksmithd/locksmith/test/must"
)

// The example of /etc/locksmith/kubernetes.conf, all of whose lines are comments, has every setting, with values that
// can be used together.
func TestExampleOfTheConfigurationHasEverySetting(t *testing.T) {
	text, err := os.ReadFile("kubernetes.conf")
	must.Do(t, err)
	var environ []string
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "#") {
			t.Errorf("%q is in force, and not an example", line)
		}
		if setting := strings.TrimPrefix(line, "#"); strings.HasPrefix(setting, "LOCKSMITH_KUBERNETES_") {
			environ = append(environ, setting)
		}
	}
	a := &app{}
	root := a.rootCommand()
	sets := []*pflag.FlagSet{root.PersistentFlags()}
	for _, sub := range root.Commands() {
		sets = append(sets, sub.LocalNonPersistentFlags())
	}
	for _, set := range sets {
		set.VisitAll(func(flag *pflag.Flag) {
			line := "\n#LOCKSMITH_KUBERNETES_" + strings.ToUpper(strings.ReplaceAll(flag.Name, "-", "_")) + "="
			if count := strings.Count(string(text), line); flag.Name != "cancelled" && count != 1 {
				t.Errorf("the example has --%s %d times", flag.Name, count)
			}
		})
	}
	must.Do(t, fromEnvironment(environ, sets...))
	a.FLUO = true // what hooks need is off by default, and so in the example
	must.Do(t, a.check())
}
