package main

import (
	"context"
	"testing"

	"github.com/locksmithd/locksmith/test/etcdtest"
)

// TestStaleReadsAreNotShown asks a member that has lost the others, and so may
// not know what they have done since: it must not answer from what it has.
func TestStaleReadsAreNotShown(t *testing.T) {
	t.Parallel()
	for _, v := range etcdtest.OldestAndNewest() {
		t.Run(v.String(), func(t *testing.T) {
			t.Parallel()
			members := etcdtest.MustStartCluster(t, v, 3, etcdtest.Options{})
			left := members[2]
			wantAll(t, atOnce(t, left, [][]string{{"set-max", "2"}}))
			members[0].Kill()
			members[1].Kill()
			for _, r := range atOnce(t, left, [][]string{{"status"}, {"status", "-o", "json"}}) {
				if r.code != 1 || r.stdout != "" || r.stderr == "" {
					t.Errorf("%v exits with %d, prints %q and says %q", r.args, r.code, r.stdout, r.stderr)
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if err := members[0].Restart(ctx); err != nil {
				t.Fatal(err)
			}
			if r := atOnce(t, left, [][]string{{"status"}})[0]; r.stdout != "Available: 2\nMax: 2\n" {
				t.Errorf("with a quorum again: %+v", r)
			}
		})
	}
}
