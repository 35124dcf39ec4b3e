package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/internal/fleetclient"
	"github.com/locksmithd/locksmith/systemd"
	"github.com/locksmithd/locksmith/test/must"
)

const fleetLock = "REBOOT_STRATEGY=fleet-lock\nLOCKSMITHD_FLEETLOCK_URL=https://reboots.example:8443/base\n"

func TestFleetLock(t *testing.T) {
	c := newCertificates(t)
	password := filepath.Join(t.TempDir(), "password")
	must.Do(t, os.WriteFile(password, []byte("geh3im\n"), 0o600))
	conf := fleetLock + "LOCKSMITHD_FLEETLOCK_CAFILE=" + c.ca + "\nLOCKSMITHD_FLEETLOCK_CERTFILE=" + c.cert + "\nLOCKSMITHD_FLEETLOCK_KEYFILE=" + c.key +
		"\nLOCKSMITHD_FLEETLOCK_USERNAME=web\nLOCKSMITHD_FLEETLOCK_PASSWORD_FILE=" + password + "\nLOCKSMITHD_FLEETLOCK_ID=machine-id\nLOCKSMITHD_GROUP=workers\n" +
		// What is only for etcd is not looked at.
		"LOCKSMITHD_ENDPOINT=nonsense\nLOCKSMITHD_ETCD_CAFILE=/no/such/file\n"
	want := Lock{Group: "workers", FleetLock: FleetLock{
		Server:    fleetclient.Config{URL: "https://reboots.example:8443/base", CAFile: c.ca, CertFile: c.cert, KeyFile: c.key, Username: "web", PasswordFile: password},
		MachineID: true,
	}}
	for _, program := range []Program{Daemon, CLI} {
		got := mustLoad(t, Options{Program: program, Root: newRoot(t, map[string]string{etc: conf})})
		if got.Lock != want || got.Strategy != StrategyFleetLock || got.HealthFailure != HealthHold || len(got.Warnings) > 0 {
			t.Errorf("%s: the lock is %+v, strategy %s, %s, warnings %q", program, got.Lock, got.Strategy, got.HealthFailure, got.Warnings)
		}
	}
}

// A command that needs the lock gets the settings of the server, whether its parts are one or both.
func TestFleetLockIsTheLockOfCommandsUnlessTheyNameAnEndpoint(t *testing.T) {
	root := newRoot(t, map[string]string{etc: fleetLock})
	for _, part := range []Part{PartEtcd, PartEtcd | PartLock, PartWindow} {
		c := mustLoad(t, Options{Program: CLI, Root: root, Check: part})
		if got := c.FleetLock.Server.URL != ""; got != (part&PartEtcd != 0) || c.Etcd.Endpoints != "" {
			t.Errorf("parts %b: the lock is %+v", part, c.Lock)
		}
	}
	for what, o := range map[string]Options{
		"a flag":     {Flags: []Flag{{"endpoint", "http://a:1"}}},
		"a variable": {Environ: []string{"LOCKSMITHCTL_ENDPOINT=http://a:1"}},
	} {
		o.Program, o.Root = CLI, root
		if c := mustLoad(t, o); c.Etcd.Endpoints != "http://a:1" || c.FleetLock != (FleetLock{}) {
			t.Errorf("%s: the lock is %+v", what, c.Lock)
		}
	}
	// For the daemon an endpoint means nothing of the sort.
	if c := mustLoad(t, Options{Program: Daemon, Root: root, Environ: []string{"LOCKSMITHD_ENDPOINT=http://a:1"}, Flags: []Flag{{"endpoint", "http://a:1"}}}); c.Etcd.Endpoints != "" {
		t.Errorf("the daemon's lock is %+v", c.Lock)
	}
}

func TestWrongSettingsForFleetLockAreRefused(t *testing.T) {
	c := newCertificates(t)
	dir := t.TempDir()
	empty, two := filepath.Join(dir, "empty"), filepath.Join(dir, "two")
	must.Do(t, os.WriteFile(empty, nil, 0o600))
	one := filepath.Join(dir, "one")
	must.Do(t, os.WriteFile(one, []byte("geh3im\n"), 0o600))
	must.Do(t, os.WriteFile(two, []byte("a\nb\n"), 0o600))
	for conf, want := range map[string]string{
		"FLEETLOCK_URL=":                                            "it is missing: with REBOOT_STRATEGY=fleet-lock it has to be the URL of the server",
		"FLEETLOCK_URL=reboots.example:8443":                        "not the URL of a server: write http:// or https://",
		"FLEETLOCK_URL=unix:///run/fleetlock.sock":                  "not the URL of a server",
		"FLEETLOCK_URL=http://":                                     "not the URL of a server",
		"FLEETLOCK_URL='http://a b'":                                "not the URL of a server",
		"FLEETLOCK_URL=https://a/?group=x":                          "not the URL of a server",
		"FLEETLOCK_URL=https://web:geh3im@a/":                       "it has a user in it: use LOCKSMITHD_FLEETLOCK_USERNAME and LOCKSMITHD_FLEETLOCK_PASSWORD_FILE",
		"FLEETLOCK_URL='https://web:geh3im@a b/'":                   "it has a user in it",
		"FLEETLOCK_CAFILE=/no/such/file":                            "no such file",
		"FLEETLOCK_CAFILE=" + c.key:                                 "no certificate in it",
		"FLEETLOCK_CERTFILE=" + c.cert:                              "it is set without LOCKSMITHD_FLEETLOCK_KEYFILE: set both or neither",
		"FLEETLOCK_KEYFILE=" + c.key:                                "it is set without LOCKSMITHD_FLEETLOCK_CERTFILE: set both or neither",
		"FLEETLOCK_USERNAME=web":                                    "it is set without LOCKSMITHD_FLEETLOCK_PASSWORD_FILE: set both or neither",
		"FLEETLOCK_PASSWORD_FILE=" + one:                            "it is set without LOCKSMITHD_FLEETLOCK_USERNAME: set both or neither",
		"FLEETLOCK_ID=uuid":                                         "it does not say which id: write app-specific or machine-id",
		"GROUP=prod/database":                                       "FleetLock does not allow it: write at most 256 letters a-z and A-Z, digits, dots and hyphens",
		"FLEETLOCK_PASSWORD_FILE=" + empty + "\nUSER":               "has to have a password in one line, and nothing else",
		"FLEETLOCK_PASSWORD_FILE=" + two + "\nUSER":                 "has to have a password in one line, and nothing else",
		"FLEETLOCK_CERTFILE=" + c.cert + "\nKEY=" + c.ca:            "belong together",
		"FLEETLOCK_CERTFILE=" + c.expired + "\nKEY=" + c.expiredKey: "expired at",
		"FLEETLOCK_CERTFILE=" + c.cert + "\nKEY=/no/such":           "no such file",
	} {
		line := "LOCKSMITHD_" + strings.NewReplacer("\nUSER", "\nLOCKSMITHD_FLEETLOCK_USERNAME=web", "\nKEY", "\nLOCKSMITHD_FLEETLOCK_KEYFILE").Replace(conf)
		root := newRoot(t, map[string]string{etc: fleetLock + line + "\n"})
		name, _, _ := strings.Cut("LOCKSMITHD_"+conf, "=")
		if strings.Contains(want, "no such file") && strings.Contains(conf, "\nKEY") {
			name = "LOCKSMITHD_FLEETLOCK_KEYFILE"
		}
		for _, program := range []Program{Daemon, CLI} {
			c, err := Load(Options{Program: program, Root: root})
			if err == nil || !strings.HasPrefix(err.Error(), name) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "geh3im") || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: %s: %v, want one line that says %q", program, conf, err, want)
			}
			for _, s := range c.Settings {
				if strings.Contains(s.Value, "geh3im") {
					t.Errorf("setting %s shows the password", s.Name)
				}
			}
		}
	}
}

func TestWarningsAboutFleetLock(t *testing.T) {
	readable := filepath.Join(t.TempDir(), "password")
	must.Do(t, os.WriteFile(readable, []byte("geh3im\n"), 0o644))
	login := "LOCKSMITHD_FLEETLOCK_USERNAME=web\nLOCKSMITHD_FLEETLOCK_PASSWORD_FILE=" + readable + "\n"
	plain := strings.Replace(fleetLock, "https:", "http:", 1)
	for conf, want := range map[string]string{
		fleetLock + login: "users other than its owner may read " + readable,
		plain + login:     "everybody on the way to http://reboots.example:8443/base can read the password: write https there",
		plain + "LOCKSMITHD_FLEETLOCK_CAFILE=/no/such/file\n":                        "it has no effect, because the connection to http://reboots.example:8443/base is not encrypted: write https there",
		fleetLock + "LOCKSMITHD_MAX=3\n":                                             "it has no effect with fleet-lock, because the server decides that",
		fleetLock + "LOCKSMITHD_LOCK_TTL=1h\n":                                       "it has no effect with fleet-lock, because the server decides that",
		fleetLock + "LOCKSMITHD_HEALTH_FAILURE=pause\n":                              "with fleet-lock it acts as hold, because a FleetLock server does not let a host pause others",
		"REBOOT_STRATEGY=reboot\nLOCKSMITHD_FLEETLOCK_URL=https://reboots.example\n": "it has no effect unless REBOOT_STRATEGY is fleet-lock",
		"REBOOT_STRATEGY=etcd-lock\nLOCKSMITHD_FLEETLOCK_ID=machine-id\n":            "it has no effect unless REBOOT_STRATEGY is fleet-lock",
	} {
		for _, program := range []Program{Daemon, CLI} {
			c := mustLoad(t, Options{Program: program, Root: newRoot(t, map[string]string{etc: conf})})
			if !slices.ContainsFunc(c.Warnings, func(w string) bool { return strings.Contains(w, want) }) {
				t.Errorf("%s: %s: the warnings are %q, want %q", program, conf, c.Warnings, want)
			}
		}
	}
	if c := mustLoad(t, Options{Program: Daemon, Root: newRoot(t, map[string]string{etc: fleetLock + "LOCKSMITHD_HEALTH_FAILURE=release\n"})}); c.HealthFailure != HealthRelease {
		t.Errorf("release has become %s", c.HealthFailure)
	}
}

// A host that forgets its server would reboot without a slot.
func TestReloadThatLosesFleetLockIsRefused(t *testing.T) {
	root := newRoot(t, map[string]string{etc: fleetLock})
	l := NewLoader(Options{Program: Daemon, Root: root})
	mustReload(t, l)
	writeFile(t, filepath.Join(root, etc), "GROUP=stable\n")
	if _, err := l.Load(); err == nil || !strings.Contains(err.Error(), "REBOOT_STRATEGY is not set any more, and was fleet-lock") {
		t.Errorf("it says %v", err)
	}
}

// locksmithctl does not take the daemon's credentials, and says so.
func TestCredentialsForFleetLock(t *testing.T) {
	dir := t.TempDir()
	must.Do(t, os.WriteFile(filepath.Join(dir, "locksmithd.fleetlock-password"), []byte("geh3im"), 0o400))
	root := newRoot(t, map[string]string{etc: fleetLock + "LOCKSMITHD_FLEETLOCK_USERNAME=web\n"})
	c := mustLoad(t, Options{Program: Daemon, Root: root, Environ: []string{"CREDENTIALS_DIRECTORY=" + dir}})
	if got := c.FleetLock.Server.PasswordFile; got != filepath.Join(dir, "locksmithd.fleetlock-password") {
		t.Errorf("the password is in %q", got)
	}
	service := &systemd.Service{Credentials: map[string]string{"locksmithd.fleetlock-password": "drop-in 10-fleet.conf"}}
	_, err := Load(Options{Program: CLI, Root: root, Service: service})
	if err == nil || !strings.Contains(err.Error(), "locksmithd has the password from credential locksmithd.fleetlock-password of drop-in 10-fleet.conf") {
		t.Errorf("locksmithctl says %v", err)
	}
}
