package program

import (
	"bytes"
	"strings"
	"testing"
)

func TestFirstLineIsKeptWhateverItsPieces(t *testing.T) {
	for _, test := range []struct {
		pieces []string
		want   string
	}{
		{[]string{"", "\n", " \n", "a", "b\nc", "\n"}, "ab"},
		{[]string{"\n\n\na\n"}, "a"},
		{[]string{strings.Repeat("x", 3*maxLine), "y\nz"}, strings.Repeat("x", maxLine)},
		{[]string{"  "}, ""},
	} {
		var b bytes.Buffer
		o := &output{to: &b, left: MaxOutput}
		for _, piece := range test.pieces {
			if n, err := o.Write([]byte(piece)); n != len(piece) || err != nil {
				t.Errorf("Write returns %d, %v", n, err)
			}
		}
		if line, _ := o.close(); line != test.want || b.String() != strings.Join(test.pieces, "") {
			t.Errorf("the first line of %q is %q, want %q", test.pieces, line, test.want)
		}
	}
}
