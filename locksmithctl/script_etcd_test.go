package main

import (
	"context"
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmithd/locksmith/test/etcdtest"
)

// The commands about etcd and what is in it:
//
//	etcd [KIND]       start etcd, and set ENDPOINT and LOCKSMITHCTL_ENDPOINT to it; KIND is tls, mutual-tls or auth
//	put [-lease] KEY VALUE        write a key, attached to a lease; VALUE may have escapes
//	put-huge KEY VALUE            write a key, with a megabyte of escape sequences instead of HUGE in VALUE
//	delete KEY        delete a key
//	waits ID...       wait until these ids, and no others, are in the queue
//	document [-g GROUP] VALUE     the semaphore must be exactly this
//	record ID [FIELD=VALUE...]    the holder must have a record with these fields
//	no-record ID      the holder must have none
//	remember          remember etcd's revision
//	unchanged         etcd must still be at that revision: nothing was written
//	certificate NAME [expired]    make NAME.pem and NAME.key
var etcdCommands = commands{
	"etcd": etcdCmd,
	"put":  putCmd,
	"put-huge": func(s *stage, ts *testscript.TestScript, args []string) {
		s.put(ts, args[0], strings.ReplaceAll(args[1], "HUGE", strings.Repeat(`\u001b[31mx`, 1<<20/11)), 0)
	},
	"delete":    deleteCmd,
	"waits":     waitsCmd,
	"document":  documentCmd,
	"record":    recordCmd,
	"no-record": noRecordCmd,
	"remember": func(s *stage, ts *testscript.TestScript, _ []string) {
		s.revision = s.get(ts, semaphoreKey).Header.Revision
	},
	"unchanged":   unchangedCmd,
	"certificate": certificateCmd,
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
		s.withClient(ts, func(ctx context.Context, _ *clientv3.Client) error {
			return s.server.EnableAuth(ctx,
				etcdtest.User{Name: "locksmith", Password: "sesame", Prefix: keys + "/", Permission: clientv3.PermissionType(clientv3.PermReadWrite)},
				etcdtest.User{Name: "stranger", Password: "sesame"})
		})
	}
	ts.Setenv("ENDPOINT", s.server.Endpoint())
	ts.Setenv("LOCKSMITHCTL_ENDPOINT", s.server.Endpoint())
}

func putCmd(s *stage, ts *testscript.TestScript, args []string) {
	lease := clientv3.LeaseID(0)
	if args[0] == "-lease" {
		args = args[1:]
		s.withClient(ts, func(ctx context.Context, client *clientv3.Client) error {
			resp, err := client.Grant(ctx, 3600)
			if err == nil {
				lease = resp.ID
			}
			return err
		})
	}
	value, err := strconv.Unquote(`"` + strings.ReplaceAll(args[1], `"`, `\"`) + `"`)
	ts.Check(err)
	s.put(ts, args[0], value, lease)
}

func deleteCmd(s *stage, ts *testscript.TestScript, args []string) {
	s.withClient(ts, func(ctx context.Context, client *clientv3.Client) error {
		_, err := client.Delete(ctx, args[0])
		return err
	})
}

func waitsCmd(s *stage, ts *testscript.TestScript, want []string) {
	s.withClient(ts, func(_ context.Context, client *clientv3.Client) error { return awaitQueue(client, want) })
}

func documentCmd(s *stage, ts *testscript.TestScript, args []string) {
	key := semaphoreKey
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
	if now := s.get(ts, semaphoreKey).Header.Revision; now != s.revision {
		ts.Fatalf("etcd is at revision %d, and was at %d: something was written", now, s.revision)
	}
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

// withClient calls use with a client of the script's etcd.
func (s *stage) withClient(ts *testscript.TestScript, use func(context.Context, *clientv3.Client) error) {
	client, err := s.server.Client()
	ts.Check(err)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ts.Check(use(ctx, client))
}

func (s *stage) get(ts *testscript.TestScript, key string) (resp *clientv3.GetResponse) {
	s.withClient(ts, func(ctx context.Context, client *clientv3.Client) (err error) {
		resp, err = client.Get(ctx, key)
		return err
	})
	return resp
}

func (s *stage) put(ts *testscript.TestScript, key, value string, lease clientv3.LeaseID) {
	s.withClient(ts, func(ctx context.Context, client *clientv3.Client) error {
		_, err := client.Put(ctx, key, value, clientv3.WithLease(lease))
		return err
	})
}
