package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/rogpeppe/go-internal/testscript"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmithd/locksmith/test/bustest"
	"github.com/locksmithd/locksmith/test/etcdtest"
)

const (
	// patience is how long anything may take that is not about time.
	patience = time.Minute

	keys       = "coreos.com/updateengine/rebootlock"
	defaultKey = keys + "/semaphore"
)

// TestScripts runs each script in testdata/script, and TestScriptsOnEveryEtcd each
// of those in its folder etcd, against every version. Beside the commands of
// package testscript they have these:
//
//	run CODE ARG...   run locksmithctl on the simulated host in $WORK/host; it must exit with CODE
//	prints LINE...    the last run's standard output was exactly this
//	says LINE...      the last run's standard error was exactly this
//	interrupt ARG...  run, but with an interrupt as soon as a call hangs; it must exit with 1
//	caught            wait until a call hangs
//
//	etcd [KIND]       start etcd, and set ENDPOINT and LOCKSMITHCTL_ENDPOINT to it; KIND is tls, mutual-tls or auth
//	put [-lease] KEY VALUE        write a key, to live with a lease; VALUE may have escapes
//	put-huge KEY VALUE            write a key, with a megabyte of escape sequences in the place of HUGE in VALUE
//	delete KEY        delete a key
//	waits ID...       these, and no others, come to wait in the queue
//	document [-g GROUP] VALUE     the semaphore must be exactly this
//	record ID [FIELD=VALUE...]    the holder must have a record with these fields
//	no-record ID      the holder must have none
//	remember          remember etcd's revision
//	unchanged         etcd must still be at that revision: nothing at all was written
//	fault WHAT        put a proxy with a fault in front of etcd, see faultCmd
//	untouched         nobody has connected to that proxy
//	silent NAME       set NAME to an endpoint that accepts connections and says nothing
//	dead NAME         set NAME to an endpoint where nobody listens
//
//	bus               start a bus with a logind, and set DBUS_SYSTEM_BUS_ADDRESS to it
//	logind WHAT...    change it, see logindCmd
//	reboots N         it has been asked for a reboot N times since it was last looked at
//	announced         the signal for "need reboot" was on the bus once, as update_engine writes it
//
//	huge FILE         make a file of 100 MB
//	certificate NAME [expired]    make NAME.pem and NAME.key
func TestScripts(t *testing.T) {
	t.Parallel()
	runScripts(t, "testdata/script", etcdtest.Newest)
}

func TestScriptsOnEveryEtcd(t *testing.T) {
	t.Parallel()
	for _, v := range etcdtest.Versions() {
		t.Run(v.String(), func(t *testing.T) {
			t.Parallel()
			runScripts(t, "testdata/script/etcd", v)
		})
	}
}

func runScripts(t *testing.T, dir string, v etcdtest.Version) {
	testscript.Run(t, testscript.Params{
		Dir: dir,
		Setup: func(env *testscript.Env) error {
			tb, ok := env.T().(testing.TB)
			if !ok {
				return errors.New("testscript does not say which test runs")
			}
			env.Values[stageKey{}] = &stage{TB: tb, version: v}
			hostname, err := os.Hostname()
			if err != nil {
				return err
			}
			env.Setenv("HOSTNAME", hostname)
			env.Setenv("HOST", filepath.Join(env.WorkDir, "host"))
			env.Setenv("ESC", "\x1b")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"run":       command(runCmd),
			"prints":    command(func(_ *stage, ts *testscript.TestScript, want []string) { exactly(ts, "stdout", want) }),
			"says":      command(func(_ *stage, ts *testscript.TestScript, want []string) { exactly(ts, "stderr", want) }),
			"interrupt": command(interruptCmd),
			"caught":    command(caughtCmd),
			"etcd":      command(etcdCmd),
			"put":       command(putCmd),
			"put-huge": command(func(s *stage, ts *testscript.TestScript, args []string) {
				s.put(ts, args[0], strings.ReplaceAll(args[1], "HUGE", strings.Repeat(`\u001b[31mx`, 1<<20/11)), 0)
			}),
			"delete":    command(deleteCmd),
			"waits":     command(waitsCmd),
			"document":  command(documentCmd),
			"record":    command(recordCmd),
			"no-record": command(noRecordCmd),
			"remember": command(func(s *stage, ts *testscript.TestScript, _ []string) {
				s.revision = s.get(ts, defaultKey).Header.Revision
			}),
			"unchanged":   command(unchangedCmd),
			"fault":       command(faultCmd),
			"untouched":   command(untouchedCmd),
			"silent":      command(silentCmd),
			"dead":        command(deadCmd),
			"bus":         command(busCmd),
			"logind":      command(logindCmd),
			"reboots":     command(rebootsCmd),
			"announced":   command(announcedCmd),
			"huge":        command(hugeCmd),
			"certificate": command(certificateCmd),
		},
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

// stage is what surrounds the program in one script.
type stage struct {
	testing.TB
	version etcdtest.Version

	server   *etcdtest.Server
	proxy    *etcdtest.Proxy
	caught   <-chan struct{} // closed when a call hangs
	revision int64

	bus     *bustest.Bus
	logind  *bustest.Logind
	signals chan *dbus.Signal
}

type stageKey struct{}

func command(f func(*stage, *testscript.TestScript, []string)) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg {
			ts.Fatalf("this command has no negation")
		}
		f(ts.Value(stageKey{}).(*stage), ts, args)
	}
}

func runCmd(_ *stage, ts *testscript.TestScript, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec("locksmithctl", append([]string{"--root=" + ts.Getenv("HOST")}, args[1:]...)...)
	got := 0
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		got = exit.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

func exactly(ts *testscript.TestScript, what string, lines []string) {
	want := ""
	for _, line := range lines {
		want += line + "\n"
	}
	if got := ts.ReadFile(what); got != want {
		ts.Fatalf("%s is\n%s\nwant\n%s", what, got, want)
	}
}

// interruptCmd leaves the output where stdout and stderr find it.
func interruptCmd(s *stage, ts *testscript.TestScript, args []string) {
	var out, errs strings.Builder
	path, err := exec.LookPath("locksmithctl")
	ts.Check(err)
	cmd := exec.Command(path, append([]string{"--root=" + ts.Getenv("HOST")}, args...)...)
	for _, name := range []string{"LOCKSMITHCTL_ENDPOINT", "DBUS_SYSTEM_BUS_ADDRESS", "REBOOT_STRATEGY", euidVariable} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	cmd.Stdout, cmd.Stderr = &out, &errs
	ts.Check(cmd.Start())
	s.Cleanup(func() { _ = cmd.Process.Kill() })
	caughtCmd(s, ts, nil)
	ts.Check(cmd.Process.Signal(syscall.SIGINT))
	err = cmd.Wait()
	fmt.Fprint(ts.Stdout(), out.String())
	fmt.Fprint(ts.Stderr(), errs.String())
	if code := cmd.ProcessState.ExitCode(); code != 1 {
		ts.Fatalf("exit status %d (%v), want 1; it says %s", code, err, errs.String())
	}
}

func caughtCmd(s *stage, ts *testscript.TestScript, _ []string) {
	select {
	case <-s.caught:
	case <-time.After(patience):
		ts.Fatalf("the call was never made")
	}
}

func etcdCmd(s *stage, ts *testscript.TestScript, args []string) {
	o := etcdtest.Options{}
	kind := strings.Join(args, " ")
	switch kind {
	case "", "auth":
	case "tls", "mutual-tls":
		ca := etcdtest.MustCA(s)
		o.TLS = &etcdtest.TLS{CA: ca}
		ts.Setenv("CA", ca.File())
		if kind == "mutual-tls" {
			clients := etcdtest.MustCA(s)
			o.TLS.ClientCA = clients
			pair := clients.MustIssue(s, etcdtest.Certificate{CommonName: "host"})
			ts.Setenv("CERT", pair.CertFile)
			ts.Setenv("KEY", pair.KeyFile)
		}
	default:
		ts.Fatalf("no etcd %q", kind)
	}
	s.server = etcdtest.MustStart(s, s.version, o)
	if kind == "auth" {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		ts.Check(s.server.EnableAuth(ctx,
			etcdtest.User{Name: "locksmith", Password: "sesame", Prefix: keys + "/", Permission: clientv3.PermissionType(clientv3.PermReadWrite)},
			etcdtest.User{Name: "stranger", Password: "sesame"}))
	}
	ts.Setenv("ENDPOINT", s.server.Endpoint())
	ts.Setenv("LOCKSMITHCTL_ENDPOINT", s.server.Endpoint())
}

func (s *stage) get(ts *testscript.TestScript, key string) *clientv3.GetResponse {
	client, err := s.server.Client()
	ts.Check(err)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	resp, err := client.Get(ctx, key)
	ts.Check(err)
	return resp
}

func putCmd(s *stage, ts *testscript.TestScript, args []string) {
	lease := clientv3.LeaseID(0)
	if args[0] == "-lease" {
		args = args[1:]
		client, err := s.server.Client()
		ts.Check(err)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		resp, err := client.Grant(ctx, 3600)
		ts.Check(err)
		lease = resp.ID
	}
	value, err := strconv.Unquote(`"` + strings.ReplaceAll(args[1], `"`, `\"`) + `"`)
	ts.Check(err)
	s.put(ts, args[0], value, lease)
}

func (s *stage) put(ts *testscript.TestScript, key, value string, lease clientv3.LeaseID) {
	client, err := s.server.Client()
	ts.Check(err)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err = client.Put(ctx, key, value, clientv3.WithLease(lease))
	ts.Check(err)
}

func deleteCmd(s *stage, ts *testscript.TestScript, args []string) {
	client, err := s.server.Client()
	ts.Check(err)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err = client.Delete(ctx, args[0])
	ts.Check(err)
}

func waitsCmd(s *stage, ts *testscript.TestScript, want []string) {
	ts.Check(await(s.server, want))
}

// await waits until these, and no others, are in the default group's queue, in
// any order.
func await(server *etcdtest.Server, want []string) error {
	client, err := server.Client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	changes := client.Watch(ctx, keys+"/queue/", clientv3.WithPrefix())
	for {
		resp, err := client.Get(ctx, keys+"/queue/", clientv3.WithPrefix(), clientv3.WithKeysOnly())
		if err != nil {
			return err
		}
		var got []string
		for _, kv := range resp.Kvs {
			got = append(got, strings.TrimPrefix(string(kv.Key), keys+"/queue/"))
		}
		if slices.Equal(got, slices.Sorted(slices.Values(want))) {
			return nil
		}
		select {
		case <-changes:
		case <-ctx.Done():
			return fmt.Errorf("%q wait, want %q", got, want)
		}
	}
}

func documentCmd(s *stage, ts *testscript.TestScript, args []string) {
	key := defaultKey
	if args[0] == "-g" {
		key, args = keys+"/groups/"+args[1]+"/semaphore", args[2:]
	}
	resp := s.get(ts, key)
	if len(resp.Kvs) == 0 {
		ts.Fatalf("there is no %s", key)
	}
	if got := string(resp.Kvs[0].Value); got != args[0] {
		ts.Fatalf("%s is\n%s\nwant\n%s", key, got, args[0])
	}
}

func recordCmd(s *stage, ts *testscript.TestScript, args []string) {
	resp := s.get(ts, keys+"/holders/"+args[0])
	if len(resp.Kvs) == 0 {
		ts.Fatalf("%s has no record", args[0])
	}
	var got map[string]string
	ts.Check(json.Unmarshal(resp.Kvs[0].Value, &got))
	for _, field := range args[1:] {
		name, want, _ := strings.Cut(field, "=")
		if got[name] != want {
			ts.Fatalf("%s is %q, want %q", name, got[name], want)
		}
	}
}

func noRecordCmd(s *stage, ts *testscript.TestScript, args []string) {
	if n := len(s.get(ts, keys+"/holders/"+args[0]).Kvs); n > 0 {
		ts.Fatalf("%s has a record", args[0])
	}
}

func unchangedCmd(s *stage, ts *testscript.TestScript, _ []string) {
	if now := s.get(ts, defaultKey).Header.Revision; now != s.revision {
		ts.Fatalf("etcd is at revision %d, and was at %d: something was written", now, s.revision)
	}
}

// faultCmd puts one of these between locksmithctl and etcd:
//
//	none           nothing, but "untouched" can tell whether it was used
//	lose-reply     the next write is done, and its reply lost
//	lose-request   the next write is lost
//	silence        nothing is ever answered
//	unknown        every write is done, and no reply comes; no read is answered after that
//	fail           every write is refused
//	conflict       somebody else is always quicker to write
//	hang           the next write stands still
//	hang-read      the next read does
func faultCmd(s *stage, ts *testscript.TestScript, args []string) {
	if args[0] == "none" || args[0] == "silence" {
		s.proxy = etcdtest.MustProxy(s, s.server)
		if args[0] == "silence" {
			ts.Check(s.proxy.BlackHole())
		}
		ts.Setenv("LOCKSMITHCTL_ENDPOINT", s.proxy.Endpoint())
		return
	}
	p := etcdtest.MustRPCProxy(s, s.server)
	ts.Setenv("LOCKSMITHCTL_ENDPOINT", p.Endpoint())
	switch args[0] {
	case "lose-reply":
		p.Next(etcdtest.Writes, etcdtest.LoseReply)
	case "lose-request":
		p.Next(etcdtest.Writes, etcdtest.LoseRequest)
	case "unknown":
		p.Every(etcdtest.Writes, func(ctx context.Context, c *etcdtest.Call) error {
			p.Every(etcdtest.Reads, etcdtest.Hang)
			return etcdtest.WithholdReply(ctx, c)
		})
	case "fail":
		p.Every(etcdtest.Writes, etcdtest.Fail(rpctypes.ErrGRPCPermissionDenied))
	case "conflict":
		client, err := s.server.Client()
		ts.Check(err)
		p.Every(etcdtest.Writes, func(ctx context.Context, c *etcdtest.Call) error {
			resp, err := client.Get(ctx, defaultKey)
			if err != nil {
				return err
			}
			if _, err := client.Put(ctx, defaultKey, string(resp.Kvs[0].Value)); err != nil {
				return err
			}
			return c.Forward()
		})
	case "hang":
		s.caught = p.Next(etcdtest.Writes, etcdtest.Hang).Arrived
	case "hang-read":
		s.caught = p.Next(etcdtest.Reads, etcdtest.Hang).Arrived
	default:
		ts.Fatalf("no fault %q", args[0])
	}
}

func untouchedCmd(s *stage, ts *testscript.TestScript, _ []string) {
	if n := s.proxy.Accepted(); n > 0 {
		ts.Fatalf("etcd was connected to %d times", n)
	}
}

func listen(s *stage, ts *testscript.TestScript) (net.Listener, string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	s.Cleanup(func() { l.Close() })
	return l, "http://" + l.Addr().String()
}

// silentCmd: the kernel accepts for a listener that never asks for what came.
func silentCmd(s *stage, ts *testscript.TestScript, args []string) {
	_, url := listen(s, ts)
	ts.Setenv(args[0], url)
}

func deadCmd(s *stage, ts *testscript.TestScript, args []string) {
	l, url := listen(s, ts)
	l.Close()
	ts.Setenv(args[0], url)
}

func busCmd(s *stage, ts *testscript.TestScript, _ []string) {
	s.bus = bustest.For(s).Bus(bustest.System)
	s.logind = bustest.For(s).Logind(s.bus)
	conn := bustest.For(s).Connect(s.bus)
	all := make(chan *dbus.Signal, 100)
	s.signals = make(chan *dbus.Signal, 100)
	go func() {
		for signal := range all { // until conn is closed
			if signal.Name != "org.freedesktop.DBus.NameAcquired" {
				s.signals <- signal
			}
		}
	}()
	conn.Signal(all)
	ts.Check(conn.AddMatchSignal(dbus.WithMatchInterface(bustest.EngineInterface)))
	ts.Setenv("DBUS_SYSTEM_BUS_ADDRESS", s.bus.Address())
}

// logindCmd makes logind do one of these:
//
//	refuse                   refuse reboots
//	hang                     give no answer when asked for one
//	silent                   give no answer when asked for sessions
//	heal                     none of these any more
//	leave                    leave the bus
//	go-down                  shut down, as if somebody else had asked it to
//	boot                     be up again after a reboot
//	version N                be that of systemd N
//	sessions [NAME TTY]...   have these sessions of people, with the ids 1, 2, ...; "" is no TTY
//	own ID                   take its callers for members of that session
//	inhibit [MODE WHO WHY]   have this inhibitor for shutdown, or none
//	schedule [TYPE TIME WHY] have this shutdown scheduled, or none; the time is as in RFC 3339
func logindCmd(s *stage, ts *testscript.TestScript, args []string) {
	what, args := args[0], args[1:]
	switch what {
	case "refuse":
		s.logind.Refuse("Reboot", "org.freedesktop.DBus.Error.AccessDenied", "Permission denied")
	case "hang":
		s.caught = s.logind.Hang("Reboot")
	case "heal":
		s.logind.Heal("Reboot")
		s.logind.Heal("ListSessions")
	case "silent":
		s.caught = s.logind.Hang("ListSessions")
	case "leave":
		ts.Check(s.logind.Leave())
	case "go-down":
		ts.Check(s.logind.SetPreparing(true))
		s.logind.Refuse("Reboot", "org.freedesktop.login1.OperationInProgress", "There's already a shutdown or sleep operation in progress")
	case "boot":
		ts.Check(s.logind.SetPreparing(false))
	case "version":
		version, err := strconv.Atoi(args[0])
		ts.Check(err)
		ts.Check(s.logind.SetVersion(version))
	case "sessions":
		var sessions []bustest.Session
		for ; len(args) > 1; args = args[2:] {
			id := strconv.Itoa(len(sessions) + 1)
			sessions = append(sessions, bustest.Session{ID: id, Name: args[0], TTY: args[1]})
		}
		ts.Check(s.logind.SetSessions(sessions...))
	case "own":
		s.logind.SetOwnSession(args[0])
	case "inhibit":
		if len(args) == 0 {
			s.logind.SetInhibitors()
			return
		}
		s.logind.SetInhibitors(bustest.Inhibitor{Mode: args[0], Who: args[1], Why: args[2], PID: 812})
	case "schedule":
		if len(args) == 0 {
			s.logind.SetShutdown(bustest.Shutdown{})
			return
		}
		at, err := time.Parse(time.RFC3339, args[1])
		ts.Check(err)
		s.logind.SetShutdown(bustest.Shutdown{Type: args[0], At: at, Message: args[2]})
	default:
		ts.Fatalf("logind cannot %s", what)
	}
}

func rebootsCmd(s *stage, ts *testscript.TestScript, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := len(s.logind.Reboots())
	for range got {
		<-s.logind.Reboots()
	}
	if got != want {
		ts.Fatalf("logind was asked for %d reboots, want %d", got, want)
	}
}

func announcedCmd(s *stage, ts *testscript.TestScript, _ []string) {
	select {
	case signal := <-s.signals:
		want := []any{int64(0), float64(0), bustest.OperationNeedReboot, "", int64(0)}
		if signal.Name != bustest.EngineSignal || signal.Path != bustest.EnginePath || !slices.Equal(signal.Body, want) {
			ts.Fatalf("the signal is %v", signal)
		}
	case <-time.After(patience):
		ts.Fatalf("there was no signal")
	}
	if n := len(s.signals); n > 0 {
		ts.Fatalf("there were %d more signals", n)
	}
}

func hugeCmd(_ *stage, ts *testscript.TestScript, args []string) {
	f, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	ts.Check(f.Truncate(100 << 20))
	ts.Check(f.Close())
}

func certificateCmd(s *stage, ts *testscript.TestScript, args []string) {
	c := etcdtest.Certificate{CommonName: "host"}
	if len(args) > 1 && args[1] == "expired" {
		c.NotBefore = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		c.NotAfter = time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	}
	pair := etcdtest.MustCA(s).MustIssue(s, c)
	for from, to := range map[string]string{pair.CertFile: args[0] + ".pem", pair.KeyFile: args[0] + ".key"} {
		ts.Check(os.Rename(from, ts.MkAbs(to)))
	}
}
