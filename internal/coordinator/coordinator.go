// Package coordinator owns /run/update-engine/coordinator.conf, in which the one reboot coordinator of a
// host gives its name and its state.
//
// It guarantees that from Open to Close an exclusive flock(2) is held on the file at the path, also while its content
// is replaced; that a reader sees the old content or the new, never a part; and that of programs that follow this
// protocol only one is the coordinator. When the process dies the kernel releases the lock.
//
// Every user can read the file, and so can lock it. A lock of a user other than root does not count,
// because only root can be a reboot coordinator; see findHolder.
//
// The package does not guard against programs of root that replace or remove the file without holding its
// lock; it only notices them.
package coordinator

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/locksmithd/locksmith/internal/backoff"
)

// DefaultPath is the path of the file on a host.
const DefaultPath = "/run/update-engine/coordinator.conf"

// name is this program's name in the file.
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

// errReplaced means that the file at the path is not the one that was locked: a program that does not
// follow the protocol removed or replaced it.
var errReplaced = errors.New("the coordinator file was removed or replaced by another program, restart locksmithd to take it again")

const (
	// patience is how long Open waits for the lock: others may hold it for a moment, as login profiles do
	// to read the file.
	patience = 5 * time.Second
	// retryEvery is the time between two attempts.
	retryEvery = 50 * time.Millisecond
)

// File is the coordinator file, locked. It is not safe for concurrent use.
type File struct {
	path   string
	locked *os.File // the open file description that carries the lock; nil once closed
}

// Open locks the file, see Lock, and writes the state Starting.
func Open(ctx context.Context, path, strategy string, log *slog.Logger) (*File, error) {
	f, err := Lock(ctx, path, log)
	if err != nil {
		return nil, err
	}
	if err := f.Set(strategy, Starting); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Lock locks the file, whose content stays as it is. It creates the file and its folder if they are missing.
// While another process that may be a coordinator holds the lock, Lock tries for five seconds; then the error
// is a *HeldError. It logs a lock that does not count.
func Lock(ctx context.Context, path string, log *slog.Logger) (*File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("create the coordinator file's folder: %w", err)
	}
	deadline := time.Now().Add(patience)
	for {
		last := time.Now().After(deadline)
		file, mine, err := lockPath(path, os.O_RDONLY) // a process that has it open for writing is a coordinator
		if err != nil {
			return nil, err
		}
		if mine {
			return &File{path, file}, nil
		}
		held := findHolder(file, path)
		if held == nil && last {
			log.Warn("the lock on the coordinator file is held by a user who cannot be a reboot coordinator; it does not count", "file", path)
			return &File{path, file}, nil
		}
		file.Close()
		if held != nil && (last || held.writer) {
			return nil, held
		}
		if backoff.Sleep(ctx, retryEvery); ctx.Err() != nil {
			return nil, fmt.Errorf("wait for the lock on %s: %w", path, context.Cause(ctx))
		}
	}
}

// Set replaces the file's content. After an error the old content and the lock are still in place.
func (f *File) Set(strategy string, state State) error {
	if f.locked == nil {
		return fmt.Errorf("write coordinator file: %w", fs.ErrClosed)
	}
	next, err := f.prepare(strategy, state)
	if err != nil {
		return fmt.Errorf("write %s: %w", f.path, err)
	}
	current, err := isAt(f.locked, f.path)
	if err == nil && !current {
		err = errReplaced
	}
	if err == nil {
		err = os.Rename(next.Name(), f.path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", f.path, errors.Join(err, os.Remove(next.Name()), next.Close()))
	}
	// Only now may the old lock be released: the path names the new file, which was locked before it got that name.
	old := f.locked
	f.locked = next
	return old.Close()
}

// Close releases the lock. The file stays, with its last content.
func (f *File) Close() error {
	if f.locked == nil {
		return nil
	}
	err := f.locked.Close()
	f.locked = nil
	return err
}

// prepare locks a file beside the old one, and writes the new content to it. Until it is locked, only root can
// open it. Its name is fixed, so that only one of several processes can replace the file at a time, and so that
// a file that a killed process left is used or removed.
func (f *File) prepare(strategy string, state State) (*os.File, error) {
	temporary := filepath.Join(filepath.Dir(f.path), "."+filepath.Base(f.path)+".new")
	for {
		next, mine, err := lockPath(temporary, os.O_RDWR)
		if err != nil {
			return nil, err
		}
		info, err := next.Stat()
		if err == nil && info.Mode().Perm() != ownerOnly { // another user may have locked it
			next.Close()
			if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
			continue
		}
		if !mine {
			next.Close()
			return nil, &HeldError{Path: f.path, Name: name, writer: true}
		}
		if err == nil {
			err = next.Truncate(0)
		}
		if err == nil {
			_, err = fmt.Fprintf(next, "NAME=%s\nSTRATEGY=%s\nSTATE=%s\n", name, strategy, state)
		}
		if err == nil { // readable for every user, whatever this process's umask
			err = next.Chmod(0o644)
		}
		if err != nil {
			return nil, errors.Join(err, os.Remove(temporary), next.Close())
		}
		return next, nil
	}
}

// lockPath opens the file at path, and locks it unless another process holds the lock. The lock belongs to the
// inode and not to the name, and a holder replaces the inode at every change of state: a lock on an inode that
// has lost the name does not count.
func lockPath(path string, mode int) (file *os.File, mine bool, err error) {
	for {
		file, err := openRegular(path, mode)
		if err != nil {
			return nil, false, err
		}
		lockErr := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		current, err := isAt(file, path)
		if current && (lockErr == nil || errors.Is(lockErr, syscall.EWOULDBLOCK)) {
			return file, lockErr == nil, nil
		}
		file.Close()
		switch {
		case err != nil:
			return nil, false, fmt.Errorf("lock coordinator file: %w", err)
		case current:
			return nil, false, fmt.Errorf("lock coordinator file %s: %w", path, lockErr)
		}
	}
}

// ownerOnly is the mode of new files: other users cannot open them, and so cannot lock them.
const ownerOnly fs.FileMode = 0o600

// openRegular opens or creates a plain file, and refuses every other kind: renaming over a symbolic link would
// leave the link's target unlocked. O_NONBLOCK prevents waiting for the writer of a named pipe.
func openRegular(path string, mode int) (*os.File, error) {
	file, err := os.OpenFile(path, mode|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, ownerOnly)
	switch {
	case errors.Is(err, syscall.ELOOP):
		return nil, fmt.Errorf("coordinator file %s is a symbolic link, it must be a plain file", path)
	case errors.Is(err, syscall.EISDIR):
		return nil, fmt.Errorf("coordinator file %s is a directory, it must be a plain file", path)
	case err != nil:
		return nil, fmt.Errorf("open coordinator file: %w", err)
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("coordinator file %s is not a plain file", path)
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// isAt reports whether path still names the open file.
func isAt(file *os.File, path string) (bool, error) {
	mine, err := file.Stat()
	if err != nil {
		return false, err
	}
	there, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(mine, there), err
}
