package etcdtest

import (
	"context"
	"time"

	"github.com/locksmithd/locksmith/test/realpart"
)

// patience is how long the Must functions wait for etcd: far more than it takes, even on a busy machine.
const patience = time.Minute

// T has the methods of *testing.T and *testing.B that the Must functions need. (An import of package testing would
// give its flags to the demo.)
type T interface {
	Helper()
	Cleanup(func())
	Failed() bool
	Fatal(args ...any)
	Skip(args ...any)
	Logf(format string, args ...any)
	TempDir() string
}

// MustStart runs a healthy etcd of version v until the end of the test. It fills in Binary, and Dir where it is
// empty. If the test fails, it prints the end of etcd's log.
func MustStart(t T, v Version, o Options) *Server {
	t.Helper()
	return MustStartCluster(t, v, 1, o)[0]
}

// MustStartCluster is MustStart for n members.
func MustStartCluster(t T, v Version, n int, o Options) []*Server {
	t.Helper()
	binary, err := Binary(v)
	realpart.Must(t, err)
	o.Binary = binary
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	members, err := StartCluster(ctx, n, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, s := range members {
			s.Close()
			if t.Failed() {
				t.Logf("the end of the log of %s (%s):\n%s", s.name, s.Endpoint(), s.logTail())
			}
		}
	})
	return members
}

// MustProxy puts a Proxy in front of s until the end of the test.
func MustProxy(t T, s *Server) *Proxy {
	t.Helper()
	p, err := NewProxy(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// MustRPCProxy puts an RPCProxy in front of s until the end of the test.
func MustRPCProxy(t T, s *Server) *RPCProxy {
	t.Helper()
	p, err := NewRPCProxy(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// MustCA makes a certificate authority in a temporary folder of the test.
func MustCA(t T) *CA {
	t.Helper()
	ca, err := NewCA(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// MustIssue is Issue, and ends the test on an error.
func (ca *CA) MustIssue(t T, c Certificate) KeyPair {
	t.Helper()
	pair, err := ca.Issue(c)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}
