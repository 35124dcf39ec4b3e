// Package view draws what locksmithctl shows of a lock: tables, sentences, documents for programs, and the
// view that is redrawn while somebody watches.
//
// It is pure: facts in, text out, no I/O and no clock. It guarantees that text for people has nothing that a
// terminal acts upon, whatever other hosts have written into etcd, and at most a few hundred bytes of each
// value; documents for programs have the whole values, escaped.
package view
