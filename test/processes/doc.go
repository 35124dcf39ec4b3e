// Package processes has no code, only tests: of the real programs, each a process as
// on a host, against real etcd processes (of every version that is supported)
// and a real dbus-daemon on which update_engine and logind
// follow a script.
//
// What only a process can show belongs here: exit statuses, files, signals,
// connections, what survives a kill. Every combination of states is the
// business of the tests of package daemon. No test here sleeps: each waits for
// a condition, with a deadline that only a broken program meets. That something
// does not happen is shown by something later that does.
package processes
