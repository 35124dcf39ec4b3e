// Package bustest runs a private message bus with scripted peers for tests and for the demo.
//
// The bus is a real dbus-daemon process. The peers are Engine in place of update_engine, Logind in place of
// systemd-logind and systemd, and Stranger, a process of another user.
//
// It guarantees that the bus listens at one address for its whole life, however often it is killed and started
// again, and that everything but Stranger works without privilege. Closing a Bus leaves no process and no file
// behind; if this process is killed, the kernel ends the dbus-daemon too.
//
// It does not guarantee that the peers do more than documented: they answer the calls that the programs of this
// module make, with the signatures of the real services.
//
// Nothing here depends on package testing; tests call For.
package bustest
