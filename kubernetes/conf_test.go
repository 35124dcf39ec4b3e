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
		if setting := strings.TrimPrefix(line, "#"); strings.HasPrefix(setting, prefix) {
			environ = append(environ, setting)
		}
	}
	a := &app{}
	root := a.rootCommand()
	for _, set := range flagSets(root) {
		set.VisitAll(func(flag *pflag.Flag) {
			if count := strings.Count(string(text), "\n#"+variable(flag)+"="); variable(flag) != "" && count != 1 {
				t.Errorf("the example has --%s %d times", flag.Name, count)
			}
		})
	}
	must.Do(t, fromEnvironment(environ, root))
	a.FLUO = true // what hooks need is off by default, and so in the example
	must.Do(t, a.check())
}
