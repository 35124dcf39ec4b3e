package view

import (
	"cmp"
	"fmt"
	"strings"
	"text/tabwriter"
)

// Table is a text in columns, with "-" in cells that are empty.
type Table struct {
	text  strings.Builder
	cells *tabwriter.Writer
}

// NewTable returns a table with these headings.
func NewTable(columns ...string) *Table {
	t := &Table{}
	t.cells = tabwriter.NewWriter(&t.text, 0, 0, 2, ' ', 0)
	t.Row(columns...)
	return t
}

// Row adds a row.
func (t *Table) Row(cells ...string) {
	for i := range cells {
		cells[i] = cmp.Or(cells[i], "-")
	}
	fmt.Fprintln(t.cells, strings.Join(cells, "\t"))
}

// String returns the table, a line a row.
func (t *Table) String() string {
	t.cells.Flush() // a strings.Builder takes everything
	return t.text.String()
}
