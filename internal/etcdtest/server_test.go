package etcdtest_test

import (
	"context"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/internal/etcdtest"
)

func TestKilledServerKeepsItsDataOverARestart(t *testing.T) {
	for _, v := range etcdtest.Versions() {
		t.Run(v.String(), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			now := time.Now()
			lap := func(what string) { t.Logf("%s %v", what, time.Since(now)); now = time.Now() }
			s := etcdtest.MustStart(t, v, etcdtest.Options{})
			lap("start")
			c, err := s.Client()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Put(ctx, "k", "v"); err != nil {
				t.Fatal(err)
			}
			lap("put")
			s.Kill()
			lap("kill")
			if err := s.Restart(ctx); err != nil {
				t.Fatal(err)
			}
			lap("restart")
			r, err := c.Get(ctx, "k")
			if err != nil || len(r.Kvs) != 1 {
				t.Fatal(r, err)
			}
			if err := s.Stop(ctx); err != nil {
				t.Fatal(err)
			}
			lap("stop")
		})
	}
}
