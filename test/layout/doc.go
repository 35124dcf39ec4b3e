// Package layout tests which packages may import which. It has no code of its own.
package layout
