// Package hosts has no code, only tests: of the installed programs under
// their installed unit, on hosts with a real systemd, logind and system bus.
//
// A host is a systemd-nspawn container on a copy-on-write layer over one root,
// which is made once of the packages of a release of Debian and cached: see suites.
// It has a network interface, an address, a machine id and disks of its own, and
// a stand-in for update_engine, in the folder updateengine. A reboot is real: it
// ends the container, and the test starts the next boot, which has another boot
// id. Nothing else counts as a reboot. A power loss is a SIGKILL to the container.
//
// The tests run in namespaces of their own for mounts, processes and the network.
// So they leave nothing behind, however they end: the kernel takes it all away
// with the first process of them.
//
// What needs no real host is shown by package processes, which is quicker. No test here
// sleeps: each waits for a condition, with a deadline that only a broken program
// meets. That something does not happen is shown by something later that does.
package hosts
