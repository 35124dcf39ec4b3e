// Package hosts tests the installed programs on hosts with a real systemd, logind and system bus. It has no code
// of its own.
//
// A host is a systemd-nspawn container on a copy-on-write layer over one root, which is made once from the
// packages of a Debian release and cached: see suites. It has a network interface, an address, a machine id and
// disks of its own, and a stand-in for update_engine, in the folder updateengine. A reboot is real: it ends the
// container, and the test starts the next boot, which has a new boot id. Nothing else counts as a reboot. A power
// loss is a SIGKILL to the container.
//
// A host can be a node of a real Kubernetes control plane, a program of the module kubernetes, which runs beside the
// hosts: see startCluster.
//
// The tests run in mount, process and network namespaces of their own. So they leave nothing behind, however they
// end: the kernel removes everything with their first process.
//
// Package processes, which is faster, tests what needs no real host. No test here sleeps: each waits for a
// condition, with a deadline that only a broken program reaches. To show that something does not happen, a test
// waits for a later event that does.
package hosts
