package processes

import (
	"context"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
)

// forEachOwnEtcd runs a test against an etcd of its own of each version, to do
// harm to.
func forEachOwnEtcd(t *testing.T, o etcdtest.Options, f func(t *testing.T, s *etcdtest.Server)) {
	t.Helper()
	for _, v := range etcdtest.Versions() {
		t.Run(v.String(), func(t *testing.T) {
			t.Parallel()
			f(t, etcdtest.MustStart(t, v, o))
		})
	}
}

// soon is a context for something that has to happen soon.
func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// The daemon stays up, retries, says so in its status, and goes on once etcd is
// there.
func TestEtcdDownAtBootIsWaitedFor(t *testing.T) {
	t.Parallel()
	forEachOwnEtcd(t, etcdtest.Options{}, func(t *testing.T, s *etcdtest.Server) {
		g := newGroup(t, s)
		h := newHost(t, g.conf())
		g.lock(h.id) // from before
		h.Engine.Set(needReboot)
		s.Kill()
		h.start()
		h.awaitStatus("starting", "asking etcd", "the last attempt failed", s.Endpoint(), "trying again")
		h.await("READY=1", func() bool { return h.noticed("READY=1") > 0 })
		h.wantCoordinator("etcd-lock", "starting")
		h.wantNoReboot()
		must.Do(t, s.Restart(soon(t)))
		h.awaitReboot()
		g.awaitHolders(h.id)
		if history := g.seen(); len(history) != 3 || len(history[1].Holders) != 0 {
			t.Errorf("the slot from before was not given back first: %v", history)
		}
	})
}

// etcd is killed while a host waits for a slot, and comes back.
func TestEtcdKilledAndRestartedWhileWaitingForTheLock(t *testing.T) {
	t.Parallel()
	forEachOwnEtcd(t, etcdtest.Options{}, func(t *testing.T, s *etcdtest.Server) {
		g := newGroup(t, s)
		h := startWaiting(t, g, g.conf())
		s.Kill()
		h.awaitStatus("waiting for a slot", s.Endpoint())
		must.Do(t, s.Restart(soon(t)))
		h.awaitStatus("waiting for a slot", "held by other")
		h.wantNoReboot()
		g.unlock("other")
		h.awaitReboot()
		g.awaitHolders(h.id)
	})
}

// etcd is killed with the transaction that takes the slot on its way.
func TestEtcdKilledAndRestartedDuringALock(t *testing.T) {
	t.Parallel()
	forEachOwnEtcd(t, etcdtest.Options{}, func(t *testing.T, s *etcdtest.Server) {
		g := newGroup(t, s)
		p := etcdtest.MustRPCProxy(t, s)
		h := startHost(t, g.confAt(p.Endpoint()))
		h.awaitIdle()
		caught := p.Next(etcdtest.Writes, func(_ context.Context, c *etcdtest.Call) error {
			s.Kill()
			return c.Forward()
		})
		h.announce()
		<-caught.Arrived
		h.awaitStatus("waiting for a slot", p.Endpoint())
		must.Do(t, s.Restart(soon(t)))
		h.awaitReboot()
		g.wantHeldThroughout(h.id)
	})
}

// A host is cut off from etcd while what it waits for happens, and when it is back
// etcd does not know of that change any more: it has to look, for nobody tells it.
func TestEtcdCompactedWhileAWaitingHostIsCutOff(t *testing.T) {
	t.Parallel()
	for name, behind := range map[string]bool{"first in the queue": false, "behind another": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			forEachOwnEtcd(t, etcdtest.Options{}, func(t *testing.T, s *etcdtest.Server) {
				g := newGroup(t, s)
				p := etcdtest.MustProxy(t, s)
				g.lock("other")
				var ahead *host
				if behind {
					ahead = enqueue(t, g, g.conf())
				}
				h := enqueue(t, g, g.confAt(p.Endpoint()))
				_, stop := g.keepAlive(g.queueKey(h.id))
				defer stop()
				if !behind {
					h.awaitStatus("first in the queue", "held by other")
				} else {
					h.awaitStatus("in the queue behind " + ahead.id)
				}
				p.Refuse()
				g.unlock("other")
				if behind {
					ahead.awaitReboot()
					ahead.reboot()
				}
				g.awaitHolders()
				later, err := g.client.Put(soon(t), "unrelated", "") // for a change at the very revision would be told
				must.Do(t, err)
				_, err = g.client.Compact(soon(t), later.Header.Revision)
				must.Do(t, err)
				must.Do(t, p.Pass())
				h.awaitReboot()
				g.awaitHolders(h.id)
			})
		})
	}
}

// etcd stands still (SIGSTOP) while a host waits, and goes on.
func TestEtcdPausedAndResumedWhileWaitingForTheLock(t *testing.T) {
	t.Parallel()
	forEachOwnEtcd(t, etcdtest.Options{}, func(t *testing.T, s *etcdtest.Server) {
		g := newGroup(t, s)
		h := startWaiting(t, g, g.conf())
		must.Do(t, s.Pause(soon(t)))
		h.awaitStatus("waiting for a slot", s.Endpoint()) // it has noticed
		must.Do(t, s.Resume(soon(t)))
		g.unlock("other")
		h.awaitReboot()
		g.awaitHolders(h.id)
	})
}

// etcd stands still with the transaction that takes the slot on its way: it may
// happen later, and does.
func TestEtcdPausedAndResumedDuringALock(t *testing.T) {
	t.Parallel()
	forEachOwnEtcd(t, etcdtest.Options{}, func(t *testing.T, s *etcdtest.Server) {
		g := newGroup(t, s)
		p := etcdtest.MustRPCProxy(t, s)
		h := startHost(t, g.confAt(p.Endpoint()))
		h.awaitIdle()
		caught := p.Next(etcdtest.Writes, func(ctx context.Context, c *etcdtest.Call) error {
			if err := s.Pause(ctx); err != nil {
				return err
			}
			return c.Forward()
		})
		h.announce()
		<-caught.Arrived
		h.awaitStatus("waiting for a slot", p.Endpoint())
		h.wantNoReboot()
		must.Do(t, s.Resume(soon(t)))
		<-caught.Forwarded
		h.awaitReboot()
		g.awaitHolders(h.id)
		g.wantHeldThroughout(h.id)
		h.reboot()
		g.awaitHolders()
	})
}

// etcd is down when a host that has rebooted wants to give its slot back.
func TestEtcdDownAfterTheRebootDelaysTheRelease(t *testing.T) {
	t.Parallel()
	s := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{})
	g := newGroup(t, s)
	p := etcdtest.MustRPCProxy(t, s)
	h := newHost(t, g.confAt(p.Endpoint()))
	g.lock(h.id)
	caught := p.Next(etcdtest.Writes, func(_ context.Context, c *etcdtest.Call) error {
		s.Kill()
		return c.Forward()
	})
	h.start()
	<-caught.Arrived
	h.awaitStatus("giving back the slot that was held at start", "the last attempt failed", "trying again")
	must.Do(t, s.Restart(soon(t)))
	g.awaitHolders()
	h.awaitIdle()
}

var lostReplies = map[string]etcdtest.Fault{
	"connection lost": etcdtest.LoseReply,
	"silence":         etcdtest.WithholdReply,
}

// Holding already is success.
func TestLostReplyToACommittedLockIsASuccess(t *testing.T) {
	t.Parallel()
	for name, fault := range lostReplies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			forEachEtcd(t, func(t *testing.T, s *etcdtest.Server) {
				g := newGroup(t, s)
				p := etcdtest.MustRPCProxy(t, s)
				h := startHost(t, g.confAt(p.Endpoint()))
				h.awaitIdle()
				caught := p.Next(etcdtest.Writes, fault)
				h.announce()
				<-caught.Forwarded
				h.awaitReboot()
				g.wantHeldThroughout(h.id)
				g.wantDocument(`{"semaphore":0,"max":1,"holders":["` + h.id + `"]}`)
				h.reboot()
				g.awaitHolders()
				h.awaitIdle()
				h.wantNoReboot()
			})
		})
	}
}

// The same for an unlock: nothing held is what was wanted.
func TestLostReplyToACommittedUnlockIsASuccess(t *testing.T) {
	t.Parallel()
	for name, fault := range lostReplies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			forEachEtcd(t, func(t *testing.T, s *etcdtest.Server) {
				g := newGroup(t, s)
				p := etcdtest.MustRPCProxy(t, s)
				h := newHost(t, g.confAt(p.Endpoint()))
				g.lock(h.id)
				caught := p.Next(etcdtest.Writes, fault)
				h.start()
				<-caught.Forwarded
				g.awaitHolders()
				h.awaitIdle()
				g.wantNever("a slot too many", func(s semaphore) bool { return s.Semaphore > 1 })
				// And it works on.
				h.announce()
				h.awaitReboot()
				g.awaitHolders(h.id)
			})
		})
	}
}

// Every request has a deadline, and another endpoint is tried.
func TestSilentFirstEndpointIsPassedOver(t *testing.T) {
	t.Parallel()
	forEachEtcd(t, func(t *testing.T, s *etcdtest.Server) {
		g := newGroup(t, s)
		silent := etcdtest.MustProxy(t, s)
		must.Do(t, silent.BlackHole())
		h := startPending(t, g.confAt(silent.Endpoint()+","+s.Endpoint()))
		h.awaitReboot()
		g.awaitHolders(h.id)
	})
}

// And with no other endpoint it is no hang: the daemon says what is the matter,
// and ends when it is told to.
func TestSilentOnlyEndpointIsNoHang(t *testing.T) {
	t.Parallel()
	g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
	silent := etcdtest.MustProxy(t, sharedEtcd(t, etcdtest.Newest))
	must.Do(t, silent.BlackHole())
	h := startHost(t, g.confAt(silent.Endpoint()))
	h.awaitStatus("starting", "the last attempt failed", silent.Endpoint())
	must.Do(t, silent.Pass())
	h.awaitIdle()
	h.terminate()
}

// The document cannot be understood: it is never overwritten, the daemon says
// so, and goes on when somebody has put it right.
func TestUnreadableSemaphoreIsNeverOverwrittenAndWaitedFor(t *testing.T) {
	t.Parallel()
	for name, document := range map[string]string{
		"no JSON":           "semaphore: 1",
		"empty":             "",
		"contradicts":       `{"semaphore":5,"max":1,"holders":[]}`,
		"a holder twice":    `{"semaphore":0,"max":2,"holders":["a","a"]}`,
		"of another type":   `{"semaphore":"1","max":"1","holders":null}`,
		"too many brackets": `{"semaphore":1,"max":1,"holders":null}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			forEachEtcd(t, func(t *testing.T, s *etcdtest.Server) {
				g := newGroup(t, s)
				g.put(document)
				h := startPending(t, g.conf())
				h.awaitStatus("starting", "cannot use the semaphore at etcd key "+g.key())
				h.wantNoReboot()
				g.wantDocument(document)
				g.put(`{"semaphore":1,"max":1,"holders":[]}`)
				h.awaitReboot()
				g.awaitHolders(h.id)
			})
		})
	}
}

// The same when it breaks while a host waits for a slot.
func TestSemaphoreThatBreaksWhileWaitingIsNotOverwritten(t *testing.T) {
	t.Parallel()
	forEachEtcd(t, func(t *testing.T, s *etcdtest.Server) {
		g := newGroup(t, s)
		h := startWaiting(t, g, g.conf())
		g.put("broken")
		h.awaitStatus("trying again", "cannot use the semaphore at etcd key "+g.key())
		g.wantDocument("broken")
		h.wantNoReboot()
		g.put(`{"semaphore":1,"max":1,"holders":[]}`)
		h.awaitReboot()
		g.awaitHolders(h.id)
	})
}

// What it takes depends on whether etcd asks for a certificate, and on whether the
// system's roots know its own.
func TestEtcdWithTLS(t *testing.T) {
	t.Parallel()
	ca := etcdtest.MustCA(t)
	pair := ca.MustIssue(t, etcdtest.Certificate{CommonName: "locksmith"})
	authority := "LOCKSMITHD_ETCD_CAFILE=" + ca.File()
	certificate := "LOCKSMITHD_ETCD_CERTFILE=" + pair.CertFile + "\nLOCKSMITHD_ETCD_KEYFILE=" + pair.KeyFile
	for name, test := range map[string]struct {
		clientCA  *etcdtest.CA // whose certificates etcd asks for
		conf, env []string
	}{
		"a CA alone":                            {conf: []string{authority}},
		"a CA and a certificate":                {clientCA: ca, conf: []string{authority, certificate}},
		"a certificate, and the system's roots": {clientCA: ca, conf: []string{certificate}, env: []string{"SSL_CERT_FILE=" + ca.File()}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			forEachOwnEtcd(t, etcdtest.Options{TLS: &etcdtest.TLS{CA: ca, ClientCA: test.clientCA}}, func(t *testing.T, s *etcdtest.Server) {
				g := newGroup(t, s)
				h := startPending(t, g.conf(test.conf...), withEnv(test.env...))
				h.awaitReboot()
				g.awaitHolders(h.id)
			})
		})
	}
}

// A certificate that etcd does not take is put right without a restart: the
// files are read anew.
func TestEtcdThatDoesNotTakeTheCertificateIsWaitedFor(t *testing.T) {
	t.Parallel()
	ca, foreign := etcdtest.MustCA(t), etcdtest.MustCA(t)
	s := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{TLS: &etcdtest.TLS{CA: ca, ClientCA: ca}})
	g := newGroup(t, s)
	wrong, right := foreign.MustIssue(t, etcdtest.Certificate{CommonName: "locksmith"}), ca.MustIssue(t, etcdtest.Certificate{CommonName: "locksmith"})
	h := startPending(t, g.conf("LOCKSMITHD_ETCD_CAFILE="+ca.File(), "LOCKSMITHD_ETCD_CERTFILE="+wrong.CertFile, "LOCKSMITHD_ETCD_KEYFILE="+wrong.KeyFile))
	h.awaitStatus("starting", "the last attempt failed", s.Endpoint()+": the server does not take the client certificate in "+wrong.CertFile, "LOCKSMITHD_ETCD_CERTFILE in ", "trying again")
	h.wantNoReboot()
	must.Do(t, os.Rename(right.KeyFile, wrong.KeyFile))
	must.Do(t, os.Rename(right.CertFile, wrong.CertFile))
	h.awaitReboot()
	g.awaitHolders(h.id)
}

// The password is in no log and no status.
func TestEtcdWithUserAndPassword(t *testing.T) {
	t.Parallel()
	forEachOwnEtcd(t, etcdtest.Options{}, func(t *testing.T, s *etcdtest.Server) {
		const password = "correct-horse"
		must.Do(t, s.EnableAuth(soon(t), etcdtest.User{
			Name: "locksmith", Password: password,
			Prefix: "coreos.com/updateengine/rebootlock/", Permission: clientv3.PermissionType(clientv3.PermReadWrite),
		}))
		g := newGroup(t, s)
		h := startPending(t, g.conf("LOCKSMITHD_ETCD_USERNAME=locksmith", "LOCKSMITHD_ETCD_PASSWORD=wrong-"+password, "LOCKSMITHD_DEBUG=true"))
		h.awaitStatus("starting", "the user name or password of user", "is wrong")
		h.wantNoReboot()
		must.Do(t, h.Configure(g.conf("LOCKSMITHD_ETCD_USERNAME=locksmith", "LOCKSMITHD_ETCD_PASSWORD="+password, "LOCKSMITHD_DEBUG=true")))
		h.signal(syscall.SIGHUP)
		h.awaitReboot()
		g.awaitHolders(h.id)
		if strings.Contains(h.Log(), password) || slices.ContainsFunc(h.Notices(), func(n string) bool { return strings.Contains(n, password) }) {
			t.Error("the password is in the log or in the status")
		}
	})
}

// A daemon is killed with the transaction that takes its slot on the way, and the
// transaction happens once the next one has found that nothing is held: that would
// be a slot that nobody knows of.
func TestTransactionOfAKilledDaemonCannotHappenLater(t *testing.T) {
	t.Parallel()
	g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
	p := etcdtest.MustRPCProxy(t, sharedEtcd(t, etcdtest.Newest))
	h := startHost(t, g.confAt(p.Endpoint()))
	h.awaitIdle()
	release := make(chan struct{})
	caught := p.Next(etcdtest.Writes, etcdtest.Late(release))
	h.announce()
	<-caught.Arrived
	h.Daemon().Kill()
	h.Engine.Set(idle)
	h.start()
	h.awaitIdle()
	close(release)
	<-caught.Forwarded
	g.wantDocument(`{"semaphore":1,"max":1,"holders":null}`)
	g.wantNever("a holder", func(s semaphore) bool { return len(s.Holders) > 0 })
}

// etcd without room for more answers so, and is waited for.
func TestEtcdWithoutSpaceIsWaitedFor(t *testing.T) {
	t.Parallel()
	s := sharedEtcd(t, etcdtest.Newest)
	g := newGroup(t, s)
	p := etcdtest.MustRPCProxy(t, s)
	h := startHost(t, g.confAt(p.Endpoint()))
	h.awaitIdle()
	caught := p.Every(etcdtest.Writes, etcdtest.Fail(rpctypes.ErrGRPCNoSpace))
	h.announce()
	<-caught.Arrived
	h.awaitStatus("waiting for a slot", "database space exceeded")
	h.wantNoReboot()
	p.Clear()
	h.awaitReboot()
	g.awaitHolders(h.id)
}
