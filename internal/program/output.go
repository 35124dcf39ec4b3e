package program

import (
	"bytes"
	"io"
	"sync"
)

// output passes on what a program prints, up to a limit, and keeps the first line that is not empty. A failure to write
// is not the program's: it may print on.
type output struct {
	mu      sync.Mutex
	to      io.Writer
	left    int
	line    []byte // the beginning of the first line
	whole   bool   // the line has ended
	dropped bool
	ended   bool // what comes later is nobody's
}

// maxLine is how much of the first line is kept, in bytes: more than is shown.
const maxLine = 1000

func (o *output) Write(data []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended {
		return len(data), nil
	}
	o.keep(data)
	some := data[:min(len(data), o.left)]
	o.dropped = o.dropped || len(some) < len(data)
	o.left -= len(some)
	if len(some) > 0 {
		_, _ = o.to.Write(some)
	}
	return len(data), nil
}

func (o *output) keep(data []byte) {
	for !o.whole && len(data) > 0 {
		line, rest, found := bytes.Cut(data, []byte("\n"))
		o.line = append(o.line, line[:min(len(line), maxLine-len(o.line))]...)
		data = rest
		if found {
			o.line = bytes.TrimSpace(o.line)
			o.whole = len(o.line) > 0
		}
	}
}

// close ends the output.
func (o *output) close() (line string, dropped bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = true
	if o.dropped {
		_, _ = io.WriteString(o.to, "\n")
	}
	return string(bytes.TrimSpace(o.line)), o.dropped
}
