package etcdtest_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/realpart"
)

func TestKilledServerKeepsItsDataAndEndpoint(t *testing.T) {
	forEachVersion(t, func(ctx context.Context, t *testing.T, v etcdtest.Version) {
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		c := clientOf(t, s.Endpoint())
		put(ctx, t, c, "k", "v")
		s.Kill()
		if s.Running() {
			t.Error("running after Kill")
		}
		must.Do(t, s.Restart(ctx))
		wantValue(ctx, t, c, "k", "v")
	})
}

func TestStoppedServerShutsDownOnSIGTERM(t *testing.T) {
	forEachVersion(t, func(ctx context.Context, t *testing.T, v etcdtest.Version) {
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		put(ctx, t, outside(t, s), "k", "v")
		must.Do(t, s.Stop(ctx))
		if s.Running() {
			t.Error("running after Stop")
		}
		log, err := os.ReadFile(s.LogFile())
		must.Do(t, err)
		if !strings.Contains(string(log), "received terminated signal") && !strings.Contains(string(log), "received signal") {
			t.Errorf("the log does not mention a signal:\n%s", log)
		}
		must.Do(t, s.Restart(ctx))
		wantValue(ctx, t, outside(t, s), "k", "v")
	})
}

func TestPausedServerIsSilentAndAnswersWhenResumed(t *testing.T) {
	forEachVersion(t, func(ctx context.Context, t *testing.T, v etcdtest.Version) {
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		c := clientOf(t, s.Endpoint())
		put(ctx, t, c, "k", "v")
		must.Do(t, s.Pause(ctx))
		wantSilence(ctx, t, func(ctx context.Context) error {
			_, err := c.Get(ctx, "k")
			return err
		})
		if !s.Running() {
			t.Error("not running while paused")
		}
		must.Do(t, s.Resume(ctx))
		wantValue(ctx, t, c, "k", "v")
	})
}

func TestPausedServerCanBeKilledAndRestarted(t *testing.T) {
	ctx := t.Context()
	s := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{})
	must.Do(t, s.Pause(ctx))
	must.Do(t, s.Restart(ctx))
	must.Do(t, s.Pause(ctx))
	must.Do(t, s.Stop(ctx))
}

func TestStopKillsTheServerAfterItsTimeLimit(t *testing.T) {
	s := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Stop(ctx); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("stop: %v", err)
	}
	if s.Running() {
		t.Error("running after Stop")
	}
}

func TestPauseOfAServerThatIsGoneIsAnError(t *testing.T) {
	s := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{})
	s.Kill()
	if err := s.Pause(t.Context()); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("pause: %v, want %v", err, os.ErrProcessDone)
	}
}

func TestStartShowsTheLogOfAServerThatEnds(t *testing.T) {
	forEachVersion(t, func(ctx context.Context, t *testing.T, v etcdtest.Version) {
		binary, err := etcdtest.Binary(v)
		realpart.Must(t, err)
		_, err = etcdtest.Start(ctx, etcdtest.Options{Binary: binary, Dir: t.TempDir(), Args: []string{"--no-such-flag"}})
		if err == nil || !strings.Contains(err.Error(), "no-such-flag") {
			t.Errorf("start: %v, want an error with etcd's message about no-such-flag", err)
		}
	})
}

// Another process may take a free address first. Here it is a listener on an additional address, which closes
// when etcd has failed.
func TestStartTriesOtherAddressesWhenOneIsTaken(t *testing.T) {
	forEachVersion(t, func(ctx context.Context, t *testing.T, v etcdtest.Version) {
		taken, err := net.Listen("tcp", "127.0.0.1:0")
		must.Do(t, err)
		defer taken.Close()
		dir := t.TempDir()
		go func() {
			log := filepath.Join(dir, "etcd1", "etcd.log")
			for ctx.Err() == nil {
				if data, _ := os.ReadFile(log); strings.Contains(string(data), "address already in use") {
					break
				}
				time.Sleep(time.Millisecond)
			}
			taken.Close()
		}()
		etcdtest.MustStart(t, v, etcdtest.Options{
			Dir:  dir,
			Args: []string{"--listen-metrics-urls=http://" + taken.Addr().String()},
		})
	})
}

func TestClusterOutlivesOneMember(t *testing.T) {
	forEachVersion(t, func(ctx context.Context, t *testing.T, v etcdtest.Version) {
		members := etcdtest.MustStartCluster(t, v, 3, etcdtest.Options{})
		put(ctx, t, outside(t, members[0]), "k", "before")
		members[0].Kill()
		must.Do(t, members[1].WaitHealthy(ctx))
		put(ctx, t, outside(t, members[1]), "k", "after")
		must.Do(t, members[0].Restart(ctx))
		wantValue(ctx, t, outside(t, members[0]), "k", "after")
		must.Do(t, members[0].EnableAuth(ctx))
		must.Do(t, members[2].WaitHealthy(ctx))
		wantValue(ctx, t, outside(t, members[2]), "k", "after")
	})
}

func TestBinaryHasTheRightVersion(t *testing.T) {
	oldest, err := etcdtest.Binary(etcdtest.Oldest)
	realpart.Must(t, err)
	for _, c := range []struct {
		name, path string
		want       string
	}{
		{"of another version", oldest, "is 3.4."},
		{"missing", filepath.Join(t.TempDir(), "etcd"), "is missing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("LOCKSMITH_ETCD", c.path)
			got, err := etcdtest.Binary(etcdtest.Newest)
			if err == nil {
				t.Fatalf("found %s", got)
			}
			for _, want := range []string{c.path, c.want, "make tools"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not contain %q", err, want)
				}
			}
		})
	}
}
