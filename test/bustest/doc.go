// Package bustest is a message bus of one's own for tests and for the demo: a
// real dbus-daemon process, and on it peers that follow a script: Engine in
// the place of update_engine, Logind in the place of systemd-logind, and
// Stranger, a process of another user.
//
// It guarantees that the bus is the real thing, listening at one address for
// its whole life, however often it is killed and started again, and that
// everything here but Stranger works without privilege. Closing a Bus leaves
// no process and no file behind; if this process is killed, the kernel ends
// the dbus-daemon too.
//
// It does not guarantee that the peers do more than what is documented: they
// answer what the programs of this module ask, with the signatures that the
// real ones use.
//
// Nothing here depends on package testing; see TB for how tests use it.
package bustest
