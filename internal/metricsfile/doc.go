// Package metricsfile keeps a file with metrics of this host, which the textfile collector of node_exporter reads.
//
// It guarantees that a reader sees the old content or the new, never a part; that every user can read the file; that it is
// written only when what it says has changed, once a second at most; and that it is there only while the daemon runs, unless
// that is killed. A file that cannot be written is logged, is tried again every minute, and is in nobody's way.
//
// It says only what lasts until the daemon notices a change: not how long something has lasted, which Prometheus knows from
// a time, nor whether a window is open, which changes by itself.
package metricsfile
