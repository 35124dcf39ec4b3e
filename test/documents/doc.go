// Package documents tests that the documents describe the tree as it is. It has no code of its own.
package documents
