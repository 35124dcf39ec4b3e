package main

import (
	"bytes"
	"io"
	"slices"
	"strings"
)

// oneDash says whether a word that is being typed is, or may become, a long flag
// with one dash, which cobra would take for shorthands.
func oneDash(word string) bool {
	return strings.HasPrefix(word, "-") && !strings.HasPrefix(word, "--") && word != "-o" && word != "-h"
}

// completesOneDash says whether a shell asks how such a word, which is the last one,
// goes on.
func completesOneDash(args []string) bool {
	asks := slices.ContainsFunc(args, func(arg string) bool { return strings.HasPrefix(arg, "__complete") })
	return asks && oneDash(args[len(args)-1])
}

// oneDashWriter makes one dash of the two before each flag that cobra offers: a shell
// drops what does not begin as the word does that was typed. Cobra writes line by line.
type oneDashWriter struct{ io.Writer }

func (w oneDashWriter) Write(line []byte) (int, error) {
	short, found := bytes.CutPrefix(line, []byte("--"))
	if !found {
		return w.Writer.Write(line)
	}
	if _, err := w.Writer.Write(append([]byte("-"), short...)); err != nil {
		return 0, err
	}
	return len(line), nil
}
