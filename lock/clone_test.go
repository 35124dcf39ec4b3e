package lock

import (
	"strings"
	"testing"
)

// TestEveryComparisonOfTwoHosts is the table in docs/host-identity.md.
func TestEveryComparisonOfTwoHosts(t *testing.T) {
	matches := []match{equal, differs, unknown}
	for row, want := range map[match]string{ // of the hardware; for a disk that is equal, differs, is unknown
		equal:   "same names same",
		differs: "names clone clone",
		unknown: "same names names",
	} {
		for column, answer := range strings.Fields(want) {
			for _, name := range matches {
				c := comparison{hardware: row, disk: matches[column], name: name}
				same := answer == "same" || answer == "names" && name != differs
				if c.same() != same {
					t.Errorf("%+v: same is %v", c, !same)
				}
				if !same && len(c.differ()) == 0 {
					t.Errorf("%+v: nothing tells them apart", c)
				}
				if c.sameBoot = true; !c.same() {
					t.Errorf("%+v: a host is not itself", c)
				}
			}
		}
	}
}
