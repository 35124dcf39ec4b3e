package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/locksmithd/locksmith/internal/safetext"
)

// output remembers the first write that failed: not everything that writes says so.
type output struct {
	io.Writer

	mu  sync.Mutex
	err error
}

func (o *output) Write(data []byte) (int, error) {
	n, err := o.Writer.Write(data)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.err = cmp.Or(o.err, err)
	return n, err
}

func (o *output) failed() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

// file returns the file that w writes to, if it is one.
func file(w io.Writer) (*os.File, bool) {
	if o, ok := w.(*output); ok {
		w = o.Writer
	}
	f, ok := w.(*os.File)
	return f, ok
}

// print writes a command's result.
func (a *app) print(result string) error {
	if _, err := io.WriteString(a.stdout, result); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}

// maxNote bounds a line on standard error, in bytes.
const maxNote = 8 << 10

// note says something on standard error, in one line.
func (a *app) note(format string, args ...any) {
	fmt.Fprintf(a.stderr, "locksmithctl: %s\n", safetext.Cut(fmt.Sprintf(format, args...), maxNote))
}

// notesBeside returns a note that does not wait for the terminal: who stops that, with Ctrl-S, stops neither the
// wait nor the hosts that wait behind. Of what could not be written meanwhile the last is kept. written waits
// for what is left to be written, for a second at most.
func (a *app) notesBeside() (note func(text string), written func()) {
	texts, done := make(chan string, 16), make(chan struct{})
	go func() {
		defer close(done)
		for text := range texts {
			a.note("%s", text)
		}
	}()
	note = func(text string) {
		for {
			select {
			case texts <- text:
				return
			default:
			}
			select {
			case <-texts: // the oldest
			default:
			}
		}
	}
	written = func() {
		close(texts)
		select {
		case <-done:
		case <-time.After(time.Second):
		}
	}
	return note, written
}
