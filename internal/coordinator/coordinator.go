// Package coordinator owns /run/update-engine/coordinator.conf, the file in
// which the one reboot coordinator of a host says who it is and what it does.
//
// It guarantees that from Open to Close an exclusive flock(2) is held on the
// file that the path names, also while its content is replaced; that a reader
// sees the old content or the new, never a part; and that two programs which
// keep to the same protocol are never both the coordinator. When the process
// dies the kernel gives the lock back.
//
// It does not guard against programs that replace or remove the file without
// holding its lock; it only notices them.
package coordinator

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// DefaultPath is where the file is expected on a host.
const DefaultPath = "/run/update-engine/coordinator.conf"

// name is what this program calls itself in the file.
const name = "locksmithd"

// State is what the coordinator is doing, as the file spells it.
type State string

// The states of the file's format.
const (
	Starting      State = "starting"
	Running       State = "running"
	RebootPlanned State = "reboot-planned" // waits for a window or the lock
	Rebooting     State = "rebooting"
	Disabled      State = "disabled"
)

// ErrReplaced says that the file at the path is not the one that was locked:
// a program that does not keep to the protocol removed or replaced it.
var ErrReplaced = errors.New("the coordinator file was removed or replaced by another program, restart locksmithd to take it again")

// HeldError says that another coordinator holds the file.
type HeldError struct {
	Path string
	Name string // NAME= of the other coordinator, empty when the file does not say
}

func (e *HeldError) Error() string {
	if e.Name == "" {
		return fmt.Sprintf("%s is held by another reboot coordinator: only one may run on a host", e.Path)
	}
	return fmt.Sprintf("%s is held by the reboot coordinator %q: only one may run on a host", e.Path, e.Name)
}

// File is the coordinator file, locked. It is not safe for concurrent use.
type File struct {
	path   string
	locked *os.File // the open file description that carries the lock; nil once closed
}

// Open creates the file and its folder where they are missing, locks it and
// writes the state Starting. It does not wait: when another program has the
// lock the error is a *HeldError.
func Open(path, strategy string) (*File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("create the coordinator file's folder: %w", err)
	}
	locked, err := lockPath(path)
	if err != nil {
		return nil, err
	}
	f := &File{path: path, locked: locked}
	if err := f.Set(strategy, Starting); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Set replaces the file's content. On error the old content and the lock are
// still in place.
func (f *File) Set(strategy string, state State) error {
	if f.locked == nil {
		return fmt.Errorf("write coordinator file: %w", fs.ErrClosed)
	}
	current, err := isAt(f.locked, f.path)
	if err != nil {
		return fmt.Errorf("write coordinator file: %w", err)
	}
	if !current {
		return fmt.Errorf("write %s: %w", f.path, ErrReplaced)
	}
	next, err := f.prepare(strategy, state)
	if err != nil {
		return fmt.Errorf("write coordinator file: %w", err)
	}
	if err := os.Rename(next.Name(), f.path); err != nil {
		err = errors.Join(err, os.Remove(next.Name()), next.Close())
		return fmt.Errorf("write coordinator file: %w", err)
	}
	// Only now may the old lock go: the path names the new file, and that one
	// was locked before it had the name.
	old := f.locked
	f.locked = next
	if err := old.Close(); err != nil {
		return fmt.Errorf("close the old coordinator file: %w", err)
	}
	return nil
}

// Close gives the lock back. The file stays, with its last content.
func (f *File) Close() error {
	if f.locked == nil {
		return nil
	}
	err := f.locked.Close()
	f.locked = nil
	if err != nil {
		return fmt.Errorf("close coordinator file: %w", err)
	}
	return nil
}

// prepare writes the new content to a file beside the old one and locks it.
// The name is fixed: only the holder of the lock gets here, and what a killed
// one left behind is cleared away.
func (f *File) prepare(strategy string, state State) (_ *os.File, err error) {
	temporary := filepath.Join(filepath.Dir(f.path), "."+filepath.Base(f.path)+".new")
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	next, err := os.OpenFile(temporary, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(temporary), next.Close())
		}
	}()
	// Everybody may read it, whatever this process's umask.
	if err := next.Chmod(0o644); err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(next.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, fmt.Errorf("lock %s: %w", temporary, err)
	}
	if _, err := fmt.Fprintf(next, "NAME=%s\nSTRATEGY=%s\nSTATE=%s\n", name, strategy, state); err != nil {
		return nil, err
	}
	return next, nil
}

// lockPath returns the file at path with its lock held. The lock belongs to
// the inode and not to the name, and a holder replaces the inode at every
// change of state: a lock on one that has lost the name is worth nothing.
func lockPath(path string) (*os.File, error) {
	for {
		file, err := openRegular(path)
		if err != nil {
			return nil, err
		}
		lockErr := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		current, err := isAt(file, path)
		switch {
		case err != nil:
			file.Close()
			return nil, fmt.Errorf("lock coordinator file: %w", err)
		case !current:
			file.Close()
			continue
		case lockErr == nil:
			return file, nil
		}
		defer file.Close()
		if errors.Is(lockErr, syscall.EWOULDBLOCK) {
			return nil, &HeldError{Path: path, Name: nameIn(file)}
		}
		return nil, fmt.Errorf("lock coordinator file %s: %w", path, lockErr)
	}
}

// openRegular opens or creates the file, and nothing but a plain file:
// renaming over a symbolic link would leave the link's target unlocked, and
// O_NONBLOCK keeps a named pipe from holding us up.
func openRegular(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o644)
	if errors.Is(err, syscall.ELOOP) {
		return nil, fmt.Errorf("coordinator file %s is a symbolic link, it must be a plain file", path)
	}
	if errors.Is(err, syscall.EISDIR) {
		return nil, fmt.Errorf("coordinator file %s is a directory, it must be a plain file", path)
	}
	if err != nil {
		return nil, fmt.Errorf("open coordinator file: %w", err)
	}
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("open coordinator file: %w", err)
	}
	if !info.Mode().IsRegular() {
		file.Close()
		return nil, fmt.Errorf("coordinator file %s is not a plain file", path)
	}
	return file, nil
}

// isAt tells whether path still names the open file.
func isAt(file *os.File, path string) (bool, error) {
	mine, err := file.Stat()
	if err != nil {
		return false, err
	}
	there, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return os.SameFile(mine, there), nil
}

// nameIn returns what the other coordinator calls itself, empty when its file
// does not say.
func nameIn(file *os.File) string {
	head, err := io.ReadAll(io.LimitReader(file, 4096))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(head)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "NAME="); ok {
			return value
		}
	}
	return ""
}
