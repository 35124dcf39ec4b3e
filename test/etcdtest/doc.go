// Package etcdtest runs real etcd processes for tests and for the demo, with faults between them and their
// clients.
//
// A test asks for a server of each version and works against its endpoint:
//
//	for _, v := range etcdtest.Versions() {
//		t.Run(v.String(), func(t *testing.T) {
//			s := etcdtest.MustStart(t, v, etcdtest.Options{})
//			c, err := s.Client() // past any proxy
//			...
//			s.Kill()
//			err = s.Restart(ctx) // same data, same endpoint
//		})
//	}
//
// The demo uses Binary, Start and Close instead.
//
// Two proxies make faults. Proxy works on bytes, with or without TLS: it refuses, silences, delays and cuts
// connections. RPCProxy works on calls, without TLS: it fails, delays or loses the one call that the test chooses,
// such as the reply to the next write:
//
//	p := etcdtest.MustRPCProxy(t, s)
//	caught := p.Next(etcdtest.Writes, etcdtest.WithholdReply)
//	... a client of p.Endpoint() writes ...
//	<-caught.Forwarded // the write is committed, and the client does not know it
//
// # Guarantees
//
//   - No server outlives the process that started it, however that ends: the kernel kills it
//     (PR_SET_PDEATHSIG), paused or not.
//   - Servers of test packages that run at the same time do not share an address: each has a random one in
//     127.0.0.0/8, on ports that the kernel does not assign by itself. A server keeps its address and its
//     data over Kill, Stop and Restart.
//   - The versions of Newest and Oldest are checked.
//
// # Not guaranteed
//
// Data survive a killed process, but not a crashed machine: etcd runs without fsync where it can (3.5 and later).
// Linux only.
package etcdtest
