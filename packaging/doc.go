// Package packaging tests what hosts install: the Debian and RPM packages, the system
// extensions for Flatcar, and the files of make install. The scripts in this
// folder, which make runs, build them.
//
// The tests build from a copy of the sources, and so do not change bin/ and dist/
// of the checkout.
package packaging
