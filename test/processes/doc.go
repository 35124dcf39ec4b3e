// Package processes tests the real programs, each as a process on a simulated host. It has no code of its own.
//
// The programs run against real etcd processes of every supported version, and on a real dbus-daemon with a
// scripted update_engine and logind.
//
// Tests belong here if only a process can show their subject: exit statuses, files, signals, connections, what
// survives a kill. Combinations of states are tested in package policy. No test here sleeps: each waits for a
// condition, with a deadline that only a broken program reaches. To show that something does not happen, a test
// waits for a later event that does.
package processes
