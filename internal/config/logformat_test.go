package config

import (
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/systemd"
)

func TestLogFormat(t *testing.T) {
	for conf, want := range map[string]LogFormat{
		"": LogText, "LOCKSMITHD_LOG_FORMAT=": LogText, "LOCKSMITHD_LOG_FORMAT=text": LogText, "LOCKSMITHD_LOG_FORMAT=json": LogJSON,
	} {
		for _, program := range []Program{Daemon, CLI} {
			c := mustLoad(t, Options{Program: program, Root: newRoot(t, map[string]string{etc: conf})})
			if c.LogFormat != want || len(c.Warnings) > 0 {
				t.Errorf("%s, %q: the format is %q, with the warnings %q", program, conf, c.LogFormat, c.Warnings)
			}
		}
	}
}

// Nothing but the daemon, and what shows all settings, fails because of it.
func TestWrongLogFormatIsRefused(t *testing.T) {
	for _, value := range []string{"JSON", "logfmt", "true"} {
		root := newRoot(t, map[string]string{etc: "LOCKSMITHD_LOG_FORMAT=" + value})
		for _, program := range []Program{Daemon, CLI} {
			_, err := Load(Options{Program: program, Root: root})
			want := `LOCKSMITHD_LOG_FORMAT="` + value + `" (` + root + etc + ":1): it is not a format: write text or json"
			if err == nil || err.Error() != want {
				t.Errorf("%s: %v, want %s", program, err, want)
			}
		}
		if _, err := Load(Options{Program: CLI, Root: root, Check: PartStrategy | PartEtcd | PartLock}); err != nil {
			t.Errorf("a command that does not log: %v", err)
		}
	}
}

func TestJSONForTheJournalIsWarnedOf(t *testing.T) {
	for _, c := range []struct {
		conf    string
		service *systemd.Service
		warned  bool
	}{
		{"LOCKSMITHD_LOG_FORMAT=json", &systemd.Service{}, true},
		{"LOCKSMITHD_LOG_FORMAT=text", &systemd.Service{}, false},
		{"LOCKSMITHD_LOG_FORMAT=json", &systemd.Service{Masked: true}, false},
		{"LOCKSMITHD_LOG_FORMAT=json", nil, false},
	} {
		root := newRoot(t, map[string]string{etc: c.conf})
		var warnings []string
		for _, w := range mustLoad(t, Options{Program: CLI, Root: root, Service: c.service}).Warnings {
			if strings.HasPrefix(w, "LOCKSMITHD_LOG_FORMAT=") {
				warnings = append(warnings, w)
			}
		}
		if len(warnings) > 0 != c.warned {
			t.Errorf("%s with %+v: the warnings are %q", c.conf, c.service, warnings)
		}
	}
}
