package main

import (
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/internal/view"
	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/must"
)

func TestWhatIsTheSameIsNotWrittenAgain(t *testing.T) {
	free := lock.Overview{Semaphore: lock.Semaphore{Free: 1, Max: 1}}
	held := lock.Overview{Semaphore: lock.Semaphore{Max: 1, Holders: []string{"1"}}, Holders: []lock.HolderInfo{{ID: "1"}}}
	for _, f := range []view.Format{view.Text, view.JSON} {
		var out strings.Builder
		w := &watcher{app: &app{process: process{stdout: &out, now: time.Now}}, format: f, watch: view.NewWatch("")}
		for i, o := range []lock.Overview{free, free, held, held} {
			before := out.Len()
			must.Do(t, w.observe(observation{overview: o}))
			if changed := i%2 == 0; (out.Len() > before) != changed {
				t.Errorf("%v: overview %d was written: %v", f, i, !changed)
			}
		}
	}
}
