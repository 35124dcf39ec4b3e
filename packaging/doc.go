// Package packaging tests what hosts install: the Debian packages, the system
// extensions for Flatcar and what make install copies. How these are made is in
// the scripts beside this file, which make runs.
//
// The tests build them from a copy of the sources, and so do not touch bin/ and
// dist/ of the checkout.
package packaging
