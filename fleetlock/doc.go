// Package fleetlock is the FleetLock protocol: hosts ask a server over HTTP for permission to reboot, so that only a
// few of them reboot at once. Zincati of Fedora CoreOS speaks it, and several servers do.
//
// A client sends its [Params] in two kinds of request. With pre-reboot it takes a slot, and may reboot if the answer is
// 200. With steady-state it gives the slot back. Both may be repeated: to take a slot that one has, or to give back
// one that one does not have, succeeds.
//
// [Handler] is the server's side over HTTP; who gets a slot is decided by a [Server], which the user of this package
// provides. [Client] is the other side. [AppID] makes the id by which Zincati names a host.
//
// # Guarantees
//
//   - The handler answers 200 for a nil error of its [Server] only, and no other code below 400 at all. (Zincati takes
//     every 2xx for a permission.)
//   - Every answer of the handler is JSON, also for a path, a method or a body that is wrong. It redirects nobody.
//   - The handler reads at most 64 KiB of a body, for at most ten seconds, and calls its [Server] with checked
//     parameters only.
//   - The client takes only a complete answer with code 200 for success. It follows no redirect, and reads at most
//     64 KiB of an answer.
//   - Every error tells the caller whether the request may have been carried out: see [ErrUnknown]. It is one line
//     without control characters, whatever the server sent, and without the user and the password.
//
// # Not guaranteed
//
//   - Who asks: the protocol has no authentication. A [Server] may check what its [Caller] sent with the request.
//   - That a slot comes back: the holder has to ask for that.
//   - JSON for requests that are not well-formed HTTP: net/http answers those by itself, in plain text.
//
// The package imports nothing but the standard library. docs/fleetlock.md has the protocol in detail, and what other
// servers and clients make of it.
package fleetlock
