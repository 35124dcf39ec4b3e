package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/test/must"
)

func TestAlerts(t *testing.T) {
	conf := `LOCKSMITHD_PROMETHEUS_URL=HTTPS://prometheus.example:9090/prom
LOCKSMITHD_ALERTMANAGER_URL=http://[::1]:9093/
LOCKSMITHD_ALERT_IGNORE=Watchdog|Info.*
`
	for _, program := range []Program{Daemon, CLI} {
		c := mustLoad(t, Options{Program: program, Root: newRoot(t, map[string]string{etc: conf})})
		a := c.Alerts
		if a.PrometheusURL != "https://prometheus.example:9090/prom" || a.AlertmanagerURL != "http://[::1]:9093/" || a.Query != `ALERTS{alertstate="firing"}` || len(c.Warnings) > 0 {
			t.Errorf("got %+v, warnings %q", a, c.Warnings)
		}
		for name, want := range map[string]bool{"Watchdog": true, "InfoInhibitor": true, "WatchdogOfDisks": false, "MyWatchdog": false, "NoInfo": false} {
			if a.Ignore.MatchString(name) != want {
				t.Errorf("alert %s: ignored %v", name, !want)
			}
		}
		if c := mustLoad(t, Options{Program: program, Root: newRoot(t, nil)}); c.Alerts != (Alerts{Query: `ALERTS{alertstate="firing"}`}) {
			t.Errorf("without settings: %+v", c.Alerts)
		}
	}
}

func TestWrongSettingsForAlertsAreRefused(t *testing.T) {
	for conf, want := range map[string]string{
		"PROMETHEUS_URL=prometheus.example:9090":                                "not the URL of a server: write http:// or https://",
		"PROMETHEUS_URL=10.0.0.1:9090":                                          "not the URL of a server",
		"PROMETHEUS_URL=/run/prometheus.sock":                                   "not the URL of a server",
		"ALERTMANAGER_URL=unix:///run/alertmanager.sock":                        "not the URL of a server",
		"ALERTMANAGER_URL=http://":                                              "not the URL of a server",
		"ALERTMANAGER_URL=http://:9093":                                         "not the URL of a server",
		"ALERTMANAGER_URL='http://a b'":                                         "not the URL of a server",
		"ALERTMANAGER_URL=https://a/#/alerts":                                   "leave out what begins with ? or #",
		"PROMETHEUS_URL=https://a/api/v1/query?query=up":                        "leave out what begins with ? or #",
		"PROMETHEUS_URL=https://admin:geh3im@prometheus.example/":               "it has a user in it: write a bearer token into a file, and set LOCKSMITHD_ALERT_TOKEN_FILE",
		"ALERT_IGNORE='(Watchdog'":                                              "not a regular expression: missing closing ): write one",
		"ALERT_IGNORE=a)|(b":                                                    "not a regular expression: unexpected ): write one",
		`ALERT_IGNORE='\Qa'`:                                                    "not a regular expression: missing closing ): write one",
		"ALERT_IGNORE=" + strings.Repeat("(", 1000) + strings.Repeat(")", 1000): "not a regular expression: expression nests too deeply: write one",
	} {
		root := newRoot(t, map[string]string{etc: "LOCKSMITHD_" + conf + "\n"})
		name, _, _ := strings.Cut(conf, "=")
		for _, program := range []Program{Daemon, CLI} {
			c, err := Load(Options{Program: program, Root: root})
			if err == nil || !strings.HasPrefix(err.Error(), "LOCKSMITHD_"+name+"=") || !strings.Contains(err.Error(), "update.conf:1") || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "geh3im") {
				t.Errorf("%.80s: %v, want one that says %q", conf, err, want)
			}
			for _, s := range c.Settings {
				if strings.Contains(s.Value, "geh3im") {
					t.Errorf("setting %s shows the password", s.Name)
				}
			}
			if _, err := Load(Options{Program: program, Root: root, Check: PartEtcd}); err != nil {
				t.Errorf("%.80s: a command that does not use it: %v", conf, err)
			}
		}
	}
}

func TestSettingsForAlertsThatCannotWorkAreWarnedAbout(t *testing.T) {
	certs := newCertificates(t)
	dir := newSecrets(t, "token")
	token, open, empty := filepath.Join(dir, "token"), filepath.Join(dir, "open"), filepath.Join(dir, "empty")
	must.Do(t, os.WriteFile(open, []byte("geh3im\n"), 0o644))
	must.Do(t, os.WriteFile(empty, nil, 0o644))
	const prometheus, alertmanager = "LOCKSMITHD_PROMETHEUS_URL=https://a\n", "LOCKSMITHD_ALERTMANAGER_URL=http://b\n"
	for _, c := range []struct{ name, conf, begin, then string }{
		{"all of it", prometheus + alertmanager + "LOCKSMITHD_ALERT_IGNORE=a\nLOCKSMITHD_ALERT_CAFILE=" + certs.ca + "\nLOCKSMITHD_ALERT_TOKEN_FILE=" + token + "\nLOCKSMITHD_PROMETHEUS_QUERY=up\n", "", ""},
		{"names without a server", "LOCKSMITHD_ALERT_IGNORE=a\n", `LOCKSMITHD_ALERT_IGNORE="a" (CONF:1): it has no effect without `, "LOCKSMITHD_PROMETHEUS_URL or LOCKSMITHD_ALERTMANAGER_URL"},
		{"a CA without a server", "LOCKSMITHD_ALERT_CAFILE=/missing\n", `LOCKSMITHD_ALERT_CAFILE="/missing" (CONF:1): it has no effect without `, "LOCKSMITHD_PROMETHEUS_URL or LOCKSMITHD_ALERTMANAGER_URL"},
		{"a token without a server", "LOCKSMITHD_ALERT_TOKEN_FILE=/missing\n", `LOCKSMITHD_ALERT_TOKEN_FILE="/missing" (CONF:1): it has no effect without `, "LOCKSMITHD_PROMETHEUS_URL or LOCKSMITHD_ALERTMANAGER_URL"},
		{"a query without Prometheus", alertmanager + "LOCKSMITHD_PROMETHEUS_QUERY=up\n", `LOCKSMITHD_PROMETHEUS_QUERY="up" (CONF:2): it has no effect without `, "LOCKSMITHD_PROMETHEUS_URL"},
		{"a CA without encryption", alertmanager + "LOCKSMITHD_ALERT_CAFILE=" + certs.ca + "\n", `LOCKSMITHD_ALERT_CAFILE="` + certs.ca + `" (CONF:2): it has no effect`, "write https"},
		{"a missing CA", prometheus + "LOCKSMITHD_ALERT_CAFILE=/missing\n", `LOCKSMITHD_ALERT_CAFILE="/missing" (CONF:2): this host does not reboot until`, "no such file"},
		{"a CA that is a directory", prometheus + "LOCKSMITHD_ALERT_CAFILE=/etc\n", `LOCKSMITHD_ALERT_CAFILE="/etc" (CONF:2): this host does not reboot until`, "a directory"},
		{"a CA without a certificate", prometheus + "LOCKSMITHD_ALERT_CAFILE=" + empty + "\n", `LOCKSMITHD_ALERT_CAFILE="` + empty + `" (CONF:2): this host does not reboot until`, "there is no certificate in it"},
		{"a missing token", alertmanager + "LOCKSMITHD_ALERT_TOKEN_FILE=/missing\n", `LOCKSMITHD_ALERT_TOKEN_FILE="/missing" (CONF:2): this host does not reboot until`, "no such file"},
		{"a token that is a directory", alertmanager + "LOCKSMITHD_ALERT_TOKEN_FILE=/etc\n", `LOCKSMITHD_ALERT_TOKEN_FILE="/etc" (CONF:2): this host does not reboot until`, "not a regular file"},
		{"a token that others can read", alertmanager + "LOCKSMITHD_ALERT_TOKEN_FILE=" + open + "\n", `LOCKSMITHD_ALERT_TOKEN_FILE="` + open + `" (CONF:2): users other than its owner may read`, "chmod 600 " + open},
	} {
		for _, program := range []Program{Daemon, CLI} {
			root := newRoot(t, map[string]string{etc: c.conf})
			got := strings.ReplaceAll(strings.Join(mustLoad(t, Options{Program: program, Root: root}).Warnings, "\n"), filepath.Join(root, etc), "CONF")
			if (got == "") != (c.begin == "") || !strings.HasPrefix(got, c.begin) || !strings.Contains(got, c.then) || strings.Contains(got, "\n") {
				t.Errorf("%s: the warnings are %q, want %q and then %q", c.name, got, c.begin, c.then)
			}
		}
	}
}
