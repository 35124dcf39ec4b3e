// Package systemd is this program's side of systemd: the system bus, logind,
// and the service manager's notification socket.
//
// It guarantees that nothing here waits without a bound: connecting, every
// call and every write to the bus has a deadline. An error never stands for an
// answer: when logind could not be asked about sessions, or whether somebody
// inhibits a shutdown, or its answer is not of the documented types, the result
// is an error, not "nobody".
//
// It does not guarantee that an accepted or scheduled reboot happens, nor that
// users read what logind tells them.
//
// The unit file of the daemon, locksmithd.service, lives in this folder.
package systemd
