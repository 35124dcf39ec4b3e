package processes

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/locksmithd/locksmith/test/bustest"
	"github.com/locksmithd/locksmith/test/must"
)

// Scripts that may refuse a reboot are told what it is for, as all others.
func TestScriptsOfMayRebootAreToldWhatTheRebootIsFor(t *testing.T) {
	t.Parallel()
	h := newHost(t, "REBOOT_STRATEGY=reboot\n")
	folder := h.Path("/etc/locksmith/may-reboot.d")
	must.Do(t, os.MkdirAll(folder, 0o755))
	must.Do(t, os.WriteFile(filepath.Join(folder, "10-backup"), []byte("#!/bin/sh\n"), 0o755))
	told := make(chan string, 100)
	h.Logind.SetUnit("locksmith-may-reboot.service", bustest.Unit{Run: func(context.Context) (int, string) {
		data, err := os.ReadFile(h.Path("/run/locksmith/hooks.env"))
		if err != nil {
			return 1, err.Error()
		}
		told <- string(data)
		return 1, "10-backup: a backup runs"
	}})
	h.startPending()
	want := `LOCKSMITH_PHASE="may-reboot"
LOCKSMITH_GROUP=""
LOCKSMITH_VERSION="4081.2.0"
LOCKSMITH_REASON="a reboot is needed: update_engine"
LOCKSMITH_MACHINE_ID="` + h.id + `"
`
	if got := must.Receive(t, patience, "the question", told); got != want {
		t.Errorf("the scripts are told\n%s\nwant\n%s", got, want)
	}
	h.awaitStatus("may-reboot.d", "10-backup: a backup runs")
	h.wantNoReboot()
}
