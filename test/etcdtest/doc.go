// Package etcdtest runs real etcd processes for tests and for the demo, and
// puts faults between them and their clients.
//
// A test asks for a server of each version and works against its endpoint:
//
//	for _, v := range etcdtest.Versions() {
//		t.Run(v.String(), func(t *testing.T) {
//			s := etcdtest.MustStart(t, v, etcdtest.Options{})
//			c, err := s.Client() // look from the outside
//			...
//			s.Kill()
//			err = s.Restart(ctx) // same data, same endpoint
//		})
//	}
//
// Everything else (the demo) uses Binary, Start and Close.
//
// Two proxies make faults. Proxy works on bytes, with or without TLS: refused,
// silent, slow and cut connections. RPCProxy works on calls, without TLS: it
// fails, delays or loses exactly the call that the test names, such as the
// reply to the next write:
//
//	p := etcdtest.MustRPCProxy(t, s)
//	caught := p.Next(etcdtest.Writes, etcdtest.WithholdReply)
//	... a client of p.Endpoint() writes ...
//	<-caught.Forwarded // it is committed, and the client knows nothing of it
//
// # Guarantees
//
//   - No server outlives the process that started it, however that ends: the
//     kernel kills it (PR_SET_PDEATHSIG), paused or not.
//   - Servers of test packages that run at the same time do not share an
//     address: each has a random one of its own in 127.0.0.0/8, on ports that
//     the kernel hands to nobody by itself. A server keeps its address, and
//     its data, over Kill, Stop and Restart.
//   - Newest and Oldest are what they say: their versions are checked.
//
// # Not guaranteed
//
// Data survive a killed process, not a crashed machine: where etcd can do
// without fsync (3.5 and later), it does. Linux only.
package etcdtest
