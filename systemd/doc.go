// Package systemd is this program's side of systemd: the system bus, logind,
// the service manager's notification socket and the boot id.
//
// It guarantees that nothing here waits without a bound: connecting, every
// call, every write to the bus and to a terminal has a deadline or does not
// block at all. An error never stands for an answer: when logind could not be
// asked about sessions the result is an error, not "nobody is logged in".
//
// It does not guarantee that an accepted reboot happens, nor that a message
// written to a terminal is read.
//
// The unit file of the daemon, locksmithd.service, lives in this folder.
package systemd
