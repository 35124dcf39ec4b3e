package metricsfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/internal/replacefile"
)

const (
	// every is the least time between two attempts to write.
	every = time.Second
	// retryAfter is how long after one that failed the next one is, while nothing changes.
	retryAfter = time.Minute
)

// A File follows the daemon, of which it is an observer. While nothing changes, and the file is there, it has no timer.
type File struct {
	// Self returns the path of the file, "" for none, and the facts but for what the daemon does. It is called right before
	// the file is written.
	Self func() (path string, f Facts)
	Log  *slog.Logger

	latest  chan policy.Snapshot // the newest one that Run has not seen yet
	refresh chan struct{}
}

// New returns a File, of which the fields are to be set.
func New() *File {
	return &File{latest: make(chan policy.Snapshot, 1), refresh: make(chan struct{}, 1)}
}

// Observe notes what the daemon does. It returns at once. It is for one goroutine.
func (f *File) Observe(s policy.Snapshot, _ string, _ []policy.Move) {
	select {
	case <-f.latest:
	default:
	}
	f.latest <- s
}

// Refresh makes Run look at the settings again. It returns at once.
func (f *File) Refresh() {
	select {
	case f.refresh <- struct{}{}:
	default:
	}
}

// Run writes until ctx ends, and then removes the file. A file that moves to another path is removed where it was.
func (f *File) Run(ctx context.Context) {
	r := run{File: f}
	defer r.leave("")
	var due <-chan time.Time // nil: there is nothing to write
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-f.latest:
			r.now = &now
		case <-f.refresh:
		case <-due:
			due = nil
			if r.write(); r.failure != "" {
				due = time.After(retryAfter)
			}
			continue
		}
		if due == nil || r.failure != "" {
			due = time.After(time.Until(r.tried.Add(every)))
		}
	}
}

// run is the state of Run.
type run struct {
	*File
	now   *policy.Snapshot // what the daemon does; nil before it has said so
	tried time.Time        // when the file was last written, or could not be

	path    string // of the file that is there, or was there before it could not be written; "" for none
	written []byte // what it says; nil where that is not known
	failure string // why it could not be written last; "" if it could
}

// write replaces the file if it says something else by now.
func (r *run) write() {
	if r.now == nil {
		return
	}
	path, facts := r.Self()
	r.leave(path)
	if path == "" {
		return
	}
	facts.Doing = *r.now
	text := facts.Text()
	if bytes.Equal(text, r.written) {
		return
	}
	r.tried, r.path = time.Now(), path
	if err := replace(path, text); err != nil {
		r.written = nil
		if text := err.Error(); text != r.failure {
			r.failure = text
			r.Log.Warn("there are no new metrics of this host", "error", err)
		}
		return
	}
	if r.written = text; r.failure != "" {
		r.failure = ""
		r.Log.Info("the metrics of this host are written again", "file", path)
	}
}

// leave removes the file if it is at another path than that.
func (r *run) leave(path string) {
	if r.path == "" || r.path == path {
		return
	}
	if err := Remove(r.path); err != nil {
		r.Log.Warn("metrics of this host stay that are not kept up to date any more", "error", err)
	}
	r.path, r.written, r.failure = "", nil, ""
}

// Remove removes the file at a path, if there is one.
func Remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the file of LOCKSMITHD_METRICS_FILE: %w", err)
	}
	return nil
}

// replace writes the file. An error says what the operator can do.
func replace(path string, text []byte) error {
	folder := filepath.Dir(path)
	_, err := os.Stat(folder) // replacefile would create it, and only for root to read
	if err == nil {
		err = replacefile.Write(path, text, 0o644, 0o755)
	}
	remedy := ""
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		remedy = ": create the folder " + folder
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		remedy = fmt.Sprintf(`: the unit lets locksmithd write below /run/locksmith only: set LOCKSMITHD_METRICS_FILE=/run/locksmith/locksmith.prom, or let it write there by "systemctl edit locksmithd" with ReadWritePaths=%s below [Service]`, folder)
	}
	return fmt.Errorf("LOCKSMITHD_METRICS_FILE=%q: %w%s", path, err, remedy)
}
