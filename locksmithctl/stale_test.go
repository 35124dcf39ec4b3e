package main

import (
	"context"
	"testing"

	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
)

// TestStaleReadsAreNotShown asks a member of a cluster that has lost the others, and so may have missed their changes:
// the command must fail rather than show the member's data.
func TestStaleReadsAreNotShown(t *testing.T) {
	t.Parallel()
	for _, v := range etcdtest.OldestAndNewest() {
		t.Run(v.String(), func(t *testing.T) {
			t.Parallel()
			members := etcdtest.MustStartCluster(t, v, 3, etcdtest.Options{})
			left := members[2]
			wantSuccess(t, runOne(t, left, "set-max", "2"))
			members[0].Kill()
			members[1].Kill()
			for _, r := range runAll(t, left, [][]string{{"status"}, {"status", "-o", "json"}}) {
				if r.code != 1 || r.stdout != "" || r.stderr == "" {
					t.Errorf("%v exits with %d, prints %q and says %q", r.args, r.code, r.stdout, r.stderr)
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			must.Do(t, members[0].Restart(ctx))
			if r := runOne(t, left, "status"); r.stdout != "Available: 2\nMax: 2\n" {
				t.Errorf("with a quorum again: %+v", r)
			}
		})
	}
}
