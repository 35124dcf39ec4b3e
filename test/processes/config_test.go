package processes

import (
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/test/contains"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/updateconf"
)

// The group in which the daemon takes its slot shows which setting applies.
func TestFlagBeatsEnvironmentBeatsEtcBeatsUsr(t *testing.T) {
	t.Parallel()
	const usr, etc, env, flag = "usr", "etc", "env", "flag"
	s := sharedEtcd(t, etcdtest.Newest)
	for name, test := range map[string]struct {
		set    []string
		winner string
	}{
		"only usr":    {[]string{usr}, usr},
		"etc too":     {[]string{usr, etc}, etc},
		"env too":     {[]string{usr, etc, env}, env},
		"all of them": {[]string{usr, etc, env, flag}, flag},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var options []option
			var usrConf, etcConf string
			groups := map[string]*group{}
			for _, place := range test.set {
				g := newGroup(t, s)
				groups[place] = g
				switch place {
				case usr:
					usrConf = "LOCKSMITHD_GROUP=" + g.name + "\nREBOOT_STRATEGY=etcd-lock\nLOCKSMITHD_ENDPOINT=" + s.Endpoint() + "\n"
				case etc:
					etcConf = "GROUP=stable\nLOCKSMITHD_GROUP='" + g.name + "'\n"
				case env:
					options = append(options, withEnv("LOCKSMITHD_GROUP="+g.name))
				case flag:
					options = append(options, withArgs("-group="+g.name))
				}
			}
			h := newHost(t, etcConf, options...)
			h.write("usr/share/flatcar/update.conf", usrConf)
			h.startPending()
			h.awaitReboot()
			for place, g := range groups {
				if place == test.winner {
					g.awaitHolders(h.id)
				} else if keys := g.keys(); len(keys) > 0 {
					t.Errorf("the group of %s was used: %v", place, keys)
				}
			}
		})
	}
}

// All endpoints are used, with one dash or two, with = or without.
func TestEndpointGivenTwiceIsUsedTwice(t *testing.T) {
	t.Parallel()
	s := sharedEtcd(t, etcdtest.Newest)
	for name, args := range map[string][]string{
		"the second answers": {"-endpoint=http://127.0.0.1:1", "-endpoint", s.Endpoint()},
		"the first answers":  {"--endpoint", s.Endpoint(), "--endpoint=http://127.0.0.1:1"},
		"commas":             {"-endpoint=http://127.0.0.1:1, " + s.Endpoint()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGroup(t, s)
			h := startPending(t, "REBOOT_STRATEGY=etcd-lock\n", withArgs(append(args, "-group", g.name)...))
			h.awaitReboot()
			g.awaitHolders(h.id)
		})
	}
}

// The file as the transpiler of Container Linux Configs writes it: with a blank first line, without a final
// newline, and with settings of other programs in between.
func TestUpdateConfOfTheTranspilerIsUnderstood(t *testing.T) {
	t.Parallel()
	s := sharedEtcd(t, etcdtest.Oldest)
	g := newGroup(t, s)
	h := newHost(t, `
GROUP=stable
SERVER=disabled
; a comment
MACHINE_ALIAS="worker 1"
REBOOT_STRATEGY="etcd-lock"
`+updateconf.OpenWindow()+`LOCKSMITHD_GROUP="`+g.name+`"
LOCKSMITHD_ENDPOINT="`+s.Endpoint()+`,http://127.0.0.1:1"`)
	h.startPending()
	h.awaitReboot()
	g.awaitHolders(h.id)
}

// The window's settings have older names, which count too.
func TestOldNamesOfTheWindowSettingsCount(t *testing.T) {
	t.Parallel()
	old := strings.NewReplacer("LOCKSMITHD_REBOOT_WINDOW_START", "REBOOT_WINDOW_START", "LOCKSMITHD_REBOOT_WINDOW_LENGTH", "REBOOT_WINDOW_LENGTH")
	h := startPending(t, old.Replace(updateconf.ShutWindow()))
	h.awaitStatus("for the reboot window, which opens")
	h.wantNoReboot()
}

// A line that looks like a setting but is not one has no effect, and causes a warning.
func TestLineThatOnlyLooksLikeASettingCausesAWarning(t *testing.T) {
	t.Parallel()
	h := startHost(t, "GROUP=stable\nREBOOT-STRATEGY=off\n"+updateconf.ShutWindow(), withEnv("LOCKSMITH_STRATEGY=off"))
	h.awaitLog("level=WARN", "update.conf:2: ", "does not set REBOOT_STRATEGY: write REBOOT_STRATEGY=VALUE")
	h.awaitLog("level=WARN", "LOCKSMITH_STRATEGY (environment)", "did you mean REBOOT_STRATEGY?")
	h.awaitIdle()
	r := h.run(locksmithctl(), "config")
	if !contains.All(r.stderr, "warning: ", "update.conf:2: ", "write REBOOT_STRATEGY=VALUE") {
		t.Errorf("locksmithctl config: %+v", r)
	}
}
