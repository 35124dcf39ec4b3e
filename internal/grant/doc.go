// Package grant gives slots of the lock to the clients of a FleetLock server.
//
// A client gets a slot of the same lock that locksmithd uses on other hosts: it waits in the same queue, and a pause,
// the number of slots and the administrator's commands count for it as well. [Server] implements [fleetlock.Server]; it
// knows nothing of HTTP.
//
// # Guarantees
//
//   - A request for a slot succeeds only if the client has one.
//   - A request is answered at the end of its hold at the latest, once its password is checked, and at once when the
//     window shuts, when the server stops, or when the same client asks again or asks for steady-state.
//   - A client that asks again within two polls has kept its place in the queue, also if it asks another server.
//   - After a success of steady-state no earlier request of that client can take a slot through this server, or through
//     another one that does not work on the request any more. Nor can it bring back its place in the queue.
//   - After a success of pre-reboot no earlier steady-state can free the slot, unless a server still works on it.
//   - What the server keeps in memory of its clients is bounded.
//
// # Not guaranteed
//
//   - That a client is who it says: whoever may use a group may give any id in it. Only the slot of a host that asks
//     for itself, as locksmithd does, is safe from clients.
//   - That a client which has taken a slot gives it back. A time-to-live of the group's slots helps.
package grant
