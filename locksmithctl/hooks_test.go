package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/locksmithd/locksmith/test/must"
)

// If the journal goes away, or takes nothing, the scripts go on, and what they return counts. The signal that says so
// still ends what they start, as in a pipeline.
func TestScriptsSurviveTheEndOfTheJournal(t *testing.T) {
	t.Parallel()
	closed, journal := pipe(t)
	must.Do(t, closed.Close())
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0) // see full(4)
	must.Do(t, err)
	defer full.Close()
	path, err := exec.LookPath("locksmithctl")
	must.Do(t, err)
	for _, output := range []*os.File{journal, full} {
		root := t.TempDir()
		folder := filepath.Join(root, "etc/locksmith/after-reboot.d")
		must.Do(t, os.MkdirAll(folder, 0o755))
		must.Do(t, os.WriteFile(filepath.Join(folder, "10-a"), []byte("#!/bin/sh\necho healthy; head -c 2000000 /dev/zero\n"), 0o755))
		must.Do(t, os.WriteFile(filepath.Join(folder, "20-b"), []byte("#!/bin/sh\nsh -c 'kill -PIPE $$'; [ $? = 141 ] && : > "+root+"/ran\n"), 0o755))
		cmd := exec.Command(path, "--root="+root, "hooks", "scripts", "after-reboot")
		cmd.Stdout, cmd.Stderr = output, output
		if err := cmd.Run(); err != nil {
			t.Errorf("it ends with %v", err)
		}
		if _, err := os.Stat(filepath.Join(root, "ran")); err != nil {
			t.Errorf("the second script has not run, or the signal is ignored: %v", err)
		}
	}
}
