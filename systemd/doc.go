// Package systemd is this program's side of systemd: of logind, the service manager, its
// notifications and its unit files.
//
// Nothing here waits without a bound: connecting, every call and every write to the bus has a
// deadline. An error never stands for an answer: if logind cannot be asked about sessions or
// inhibitors, or its answer is not of the documented types, the result is an error, not "nobody".
//
// The package does not guarantee that an accepted or scheduled reboot happens, nor that users read
// what logind tells them.
//
// The unit files are in this folder: locksmithd.service, what the daemon starts before and after a reboot, and what
// runs the server of FleetLock.
package systemd
