package main

import (
	"context"
	"net"

	"github.com/rogpeppe/go-internal/testscript"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/locksmithd/locksmith/test/etcdtest"
)

// The commands about faults between locksmithctl and etcd:
//
//	fault WHAT        put a proxy with a fault in front of etcd, see faultCmd
//	untouched         nobody has connected to that proxy
//	silent NAME       set NAME to an endpoint that accepts connections and says nothing
//	dead NAME         set NAME to an endpoint where nobody listens
var faultCommands = commands{
	"fault":     faultCmd,
	"untouched": untouchedCmd,
	"silent":    silentCmd,
	"dead":      deadCmd,
}

// faultCmd puts one of these between locksmithctl and etcd:
//
//	none           nothing, only so that "untouched" can tell whether it was used
//	lose-reply     the next write is done, and its reply lost
//	lose-request   the next write is lost
//	silence        no answer ever comes
//	unknown        every write is done, and no reply comes; no read is answered after that
//	fail           every write is refused
//	conflict       another client always writes first
//	hang           the next write hangs
//	hang-read      the next read hangs
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
			resp, err := client.Get(ctx, semaphoreKey)
			if err != nil {
				return err
			}
			if _, err := client.Put(ctx, semaphoreKey, string(resp.Kvs[0].Value)); err != nil {
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

func listenFor(s *stage, ts *testscript.TestScript) (net.Listener, string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	s.Cleanup(func() { l.Close() })
	return l, "http://" + l.Addr().String()
}

// silentCmd listens and does not accept: the kernel does, so connections are made and never answered.
func silentCmd(s *stage, ts *testscript.TestScript, args []string) {
	_, url := listenFor(s, ts)
	ts.Setenv(args[0], url)
}

func deadCmd(s *stage, ts *testscript.TestScript, args []string) {
	l, url := listenFor(s, ts)
	l.Close()
	ts.Setenv(args[0], url)
}
