package etcdtest_test

import (
	"bufio"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

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

func TestStoppedServerEndsInOrder(t *testing.T) {
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
			t.Errorf("log does not tell of a signal:\n%s", log)
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

func TestStopEndsTheServerWhenItsTimeIsOver(t *testing.T) {
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
			t.Errorf("start: %v, want an error with etcd's words about no-such-flag", err)
		}
	})
}

// Another process may be quicker to take an address that was free. It is played
// by a listener on an additional address, which goes away when etcd has failed.
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

func TestServerAsksForClientCertificate(t *testing.T) {
	forEachVersion(t, func(ctx context.Context, t *testing.T, v etcdtest.Version) {
		ca, clientCA := etcdtest.MustCA(t), etcdtest.MustCA(t)
		s := etcdtest.MustStart(t, v, etcdtest.Options{TLS: &etcdtest.TLS{CA: ca, ClientCA: clientCA}})
		put(ctx, t, outside(t, s), "k", "v")

		good := clientCA.MustIssue(t, etcdtest.Certificate{CommonName: "host"})
		expired := clientCA.MustIssue(t, etcdtest.Certificate{
			CommonName: "host",
			NotBefore:  time.Now().Add(-2 * time.Hour),
			NotAfter:   time.Now().Add(-time.Hour),
		})
		foreign := ca.MustIssue(t, etcdtest.Certificate{CommonName: "host"})
		for _, c := range []struct {
			name string
			pair *etcdtest.KeyPair
			ok   bool
		}{
			{"good", &good, true},
			{"none", nil, false},
			{"expired", &expired, false},
			{"of another authority", &foreign, false},
		} {
			client := newClient(t, clientv3.Config{Endpoints: []string{s.Endpoint()}, TLS: tlsConfig(t, ca, c.pair)})
			get := func(ctx context.Context) error {
				_, err := client.Get(ctx, "k")
				return err
			}
			if c.ok {
				must.Do(t, get(ctx))
				continue
			}
			t.Run(c.name, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(ctx, brief)
				defer cancel()
				if err := get(ctx); err == nil {
					t.Error("client is let in")
				}
			})
		}
	})
}

func TestServersCertificateIsOfItsAuthorityForItsAddress(t *testing.T) {
	forEachVersion(t, func(ctx context.Context, t *testing.T, v etcdtest.Version) {
		ca := etcdtest.MustCA(t)
		s := etcdtest.MustStart(t, v, etcdtest.Options{TLS: &etcdtest.TLS{CA: ca}})
		client := newClient(t, clientv3.Config{Endpoints: []string{s.Endpoint()}, TLS: tlsConfig(t, ca, nil)})
		put(ctx, t, client, "k", "v")

		other := newClient(t, clientv3.Config{Endpoints: []string{s.Endpoint()}, TLS: tlsConfig(t, etcdtest.MustCA(t), nil)})
		ctx, cancel := context.WithTimeout(ctx, brief)
		defer cancel()
		if _, err := other.Get(ctx, "k"); err == nil {
			t.Error("a client of another authority believes the server")
		}
	})
}

func TestUsersMayDoWhatTheyWereGranted(t *testing.T) {
	forEachVersion(t, func(ctx context.Context, t *testing.T, v etcdtest.Version) {
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		must.Do(t, s.EnableAuth(ctx,
			etcdtest.User{Name: "writer", Password: "w", Prefix: "a/", Permission: clientv3.PermissionType(clientv3.PermReadWrite)},
			etcdtest.User{Name: "reader", Password: "r", Prefix: "a/", Permission: clientv3.PermissionType(clientv3.PermRead)},
			etcdtest.User{Name: "nobody", Password: "n"},
		))
		as := func(name, password string) *clientv3.Client {
			return newClient(t, clientv3.Config{Endpoints: []string{s.Endpoint()}, Username: name, Password: password})
		}
		put(ctx, t, as("writer", "w"), "a/k", "v")
		wantValue(ctx, t, as("reader", "r"), "a/k", "v")
		for _, c := range []struct {
			name string
			do   func() error
		}{
			{"a reader writes", func() error { _, err := as("reader", "r").Put(ctx, "a/k", "x"); return err }},
			{"a writer writes elsewhere", func() error { _, err := as("writer", "w").Put(ctx, "b/k", "x"); return err }},
			{"a user without permission reads", func() error { _, err := as("nobody", "n").Get(ctx, "a/k"); return err }},
		} {
			if err := c.do(); !errors.Is(err, rpctypes.ErrPermissionDenied) {
				t.Errorf("%s: %v, want %v", c.name, err, rpctypes.ErrPermissionDenied)
			}
		}
		_, err := clientv3.New(clientv3.Config{Endpoints: []string{s.Endpoint()}, Username: "writer", Password: "wrong", Logger: zap.NewNop()})
		if !errors.Is(err, rpctypes.ErrAuthFailed) {
			t.Errorf("wrong password: %v, want %v", err, rpctypes.ErrAuthFailed)
		}
		must.Do(t, s.Restart(ctx))
		wantValue(ctx, t, outside(t, s), "a/k", "v")
	})
}

func TestBinaryIsOfTheRightVersion(t *testing.T) {
	oldest, err := etcdtest.Binary(etcdtest.Oldest)
	realpart.Must(t, err)
	for _, c := range []struct {
		name, path string
		want       string
	}{
		{"of another version", oldest, "is 3.4."},
		{"missing", filepath.Join(t.TempDir(), "etcd"), "is not there"},
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

const parentVariable = "ETCDTEST_PARENT_DIR"

// beParent starts a server from a thread that ends, prints the server's process
// id, and waits to be killed.
func beParent() {
	binary, err := etcdtest.Binary(etcdtest.Newest)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var s *etcdtest.Server
	onThreadThatEnds(func() {
		s, err = etcdtest.Start(ctx, etcdtest.Options{Binary: binary, Dir: os.Getenv(parentVariable)})
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	// The server lives on without the thread.
	if err := s.WaitHealthy(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if os.Getenv(parentPausesVariable) != "" {
		if err := s.Pause(ctx); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	fmt.Println(s.PID())
	<-ctx.Done()
}

// onThreadThatEnds runs f on a thread of its own and returns when that is gone.
func onThreadThatEnds(f func()) {
	thread := make(chan int)
	go func() {
		runtime.LockOSThread() // and never unlocks: the thread ends with the goroutine
		if syscall.Gettid() == os.Getpid() {
			// The first thread never ends. It waits here, so that another is used.
			onThreadThatEnds(f)
			thread <- 0
			return
		}
		f()
		thread <- syscall.Gettid()
	}()
	task := fmt.Sprintf("/proc/self/task/%d", <-thread)
	for {
		if _, err := os.Stat(task); errors.Is(err, os.ErrNotExist) {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

const parentPausesVariable = "ETCDTEST_PARENT_PAUSES"

func TestServerDiesWithItsParent(t *testing.T) {
	_, err := etcdtest.Binary(etcdtest.Newest)
	realpart.Must(t, err)
	for _, c := range []struct{ name, pauses string }{{"running", ""}, {"paused", "yes"}} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			self, err := os.Executable()
			must.Do(t, err)
			parent := exec.CommandContext(ctx, self)
			parent.Env = append(os.Environ(), parentVariable+"="+t.TempDir(), parentPausesVariable+"="+c.pauses)
			parent.Stderr = os.Stderr
			out, err := parent.StdoutPipe()
			must.Do(t, err)
			must.Do(t, parent.Start())
			line, err := bufio.NewReader(out).ReadString('\n')
			if err != nil {
				t.Fatalf("parent said %q: %v", line, err)
			}
			pid, err := strconv.Atoi(strings.TrimSpace(line))
			must.Do(t, err)
			if err := syscall.Kill(pid, 0); err != nil {
				t.Fatalf("server %d is not alive: %v", pid, err)
			}
			must.Do(t, parent.Process.Kill())
			_ = parent.Wait() // says that it was killed
			must.Eventually(t, patience, "server is gone", func() bool { return !alive(pid) })
		})
	}
}

// alive tells whether a process runs. One that has ended and that nobody reaps
// (init does, where there is one) is not.
func alive(pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(data), ") ")
	return !strings.HasPrefix(rest, "Z")
}

func poolOf(ca *etcdtest.CA) (*x509.CertPool, error) {
	data, err := os.ReadFile(ca.File())
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("read %s: no certificate", ca.File())
	}
	return pool, nil
}
