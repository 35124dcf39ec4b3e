package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/locksmithd/locksmith/internal/safetext"
)

// output remembers the first write that failed: not every caller reports it.
type output struct {
	io.Writer
	failure atomic.Pointer[error]
}

func (o *output) Write(data []byte) (int, error) {
	n, err := o.Writer.Write(data)
	o.remember(err)
	return n, err
}

// WriteString writes to a file without a copy of the text.
func (o *output) WriteString(text string) (int, error) {
	n, err := io.WriteString(o.Writer, text)
	o.remember(err)
	return n, err
}

func (o *output) remember(failure error) {
	if failure != nil {
		o.failure.CompareAndSwap(nil, &failure)
	}
}

// Stat lets package journal find out whether this is the journal.
func (o *output) Stat() (fs.FileInfo, error) {
	f, ok := o.Writer.(*os.File)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return f.Stat()
}

// file returns the file that w writes to, if it is one.
func file(w io.Writer) (*os.File, bool) {
	f, ok := unchecked(w).(*os.File)
	return f, ok
}

// unchecked returns what w writes to: a write that fails there does not fail the command.
func unchecked(w io.Writer) io.Writer {
	if o, ok := w.(*output); ok {
		return o.Writer
	}
	return w
}

// print writes a command's result to standard output.
func (a *app) print(result string) error {
	if _, err := io.WriteString(a.stdout, result); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}

// show prints what package view has drawn, or returns why it could not.
func (a *app) show(drawn string, err error) error {
	if err != nil {
		return err
	}
	return a.print(drawn)
}

// maxNote is the longest note, in bytes.
const maxNote = 8 << 10

// note writes a line to standard error.
func (a *app) note(format string, args ...any) {
	fmt.Fprintf(a.stderr, "locksmithctl: %s\n", safetext.Cut(fmt.Sprintf(format, args...), maxNote))
}

// notes writes notes without waiting for the terminal: a terminal that is stopped with Ctrl-S must not stop what is
// going on, nor the hosts behind it in the queue. If they pile up, the oldest are dropped.
type notes struct {
	texts   chan string
	written chan struct{} // closed when all are
}

func (a *app) startNotes() notes {
	n := notes{make(chan string, 16), make(chan struct{})}
	go func() {
		defer close(n.written)
		for text := range n.texts {
			a.note("%s", text)
		}
	}()
	return n
}

// add is for one goroutine only, so that the room it makes is for its own note.
func (n notes) add(text string) {
	if len(n.texts) == cap(n.texts) {
		select {
		case <-n.texts:
		default:
		}
	}
	n.texts <- text
}

// end waits until all are written, for a second at most.
func (n notes) end() {
	close(n.texts)
	select {
	case <-n.written:
	case <-time.After(time.Second):
	}
}

// count formats a number of things.
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// shellWord quotes a text for a POSIX shell if it has to be: people copy suggested commands.
func shellWord(s string) string {
	const plain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._/-"
	if strings.Trim(s, plain) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
