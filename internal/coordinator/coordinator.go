// Package coordinator owns /run/update-engine/coordinator.conf, the file in
// which the one reboot coordinator of a host says who it is and what it does.
//
// It guarantees that from Open to Close an exclusive flock(2) is held on the
// file that the path names, also while its content is replaced; that a reader
// sees the old content or the new, never a part; and that two programs which
// keep to the same protocol are never both the coordinator. When the process
// dies the kernel gives the lock back.
//
// Everybody may read the file, and who can open a file can lock it. So a lock of a user
// other than root, who can be no reboot coordinator, does not count; see judge.
//
// It does not guard against programs of root that replace or remove the file without
// holding its lock; it only notices them.
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

const (
	// patience is how long Open waits for a lock that somebody has for a moment, as login
	// profiles do to read the file.
	patience = 5 * time.Second
	// retryEvery is how often it tries.
	retryEvery = 50 * time.Millisecond
)

// File is the coordinator file, locked. It is not safe for concurrent use.
type File struct {
	path   string
	locked *os.File // the open file description that carries the lock; nil once closed
}

// Open is Lock, and writes the state Starting.
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

// Lock creates the file and its folder where they are missing, and locks it. Its content stays as it is. While
// somebody has the lock who may be another coordinator it tries for five seconds, and then the error is a
// *HeldError. It says in the log if it did not count a lock.
func Lock(ctx context.Context, path string, log *slog.Logger) (*File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("create the coordinator file's folder: %w", err)
	}
	f := &File{path: path}
	mine, err := f.lock(ctx)
	if err != nil {
		return nil, err
	}
	if !mine {
		log.Warn("the lock on the coordinator file is of a user who can be no reboot coordinator, and does not count", "file", path)
	}
	return f, nil
}

// lock opens the file and takes the lock, or sees that whoever has it can be no coordinator; then mine is false.
func (f *File) lock(ctx context.Context) (mine bool, err error) {
	enough := time.NewTimer(patience)
	defer enough.Stop()
	again := time.NewTicker(retryEvery)
	defer again.Stop()
	for last := false; ; {
		if f.locked, mine, err = lockPath(f.path); err != nil || mine {
			return mine, err
		}
		held := judge(f.locked, f.path)
		if held == nil && last {
			return false, nil
		}
		f.Close()
		if held != nil && (last || held.writer) {
			return false, held
		}
		select {
		case <-again.C:
		case <-enough.C:
			last = true
		case <-ctx.Done():
			return false, fmt.Errorf("wait for the lock on %s: %w", f.path, context.Cause(ctx))
		}
	}
}

// Set replaces the file's content. On error the old content and the lock are
// still in place.
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
		err = ErrReplaced
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", f.path, errors.Join(err, os.Remove(next.Name()), next.Close()))
	}
	if err := os.Rename(next.Name(), f.path); err != nil {
		return fmt.Errorf("write %s: %w", f.path, errors.Join(err, os.Remove(next.Name()), next.Close()))
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

// prepare writes the new content to a file beside the old one and locks it. Until it is locked nobody
// but root can open it. Its name is fixed, so that of several processes which would replace the file
// only one gets here, and what a killed one left behind is used or cleared away.
func (f *File) prepare(strategy string, state State) (_ *os.File, err error) {
	temporary := filepath.Join(filepath.Dir(f.path), "."+filepath.Base(f.path)+".new")
	for {
		next, err := openRegular(temporary, os.O_RDWR)
		if err != nil {
			return nil, err
		}
		info, err := next.Stat()
		if err == nil && info.Mode().Perm() != ownerOnly { // others may have it locked
			err = os.Remove(temporary)
			next.Close()
			if err == nil || errors.Is(err, fs.ErrNotExist) {
				continue
			}
			return nil, err
		}
		if err == nil {
			err = syscall.Flock(int(next.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		}
		current, statErr := isAt(next, temporary)
		switch {
		case errors.Is(err, syscall.EWOULDBLOCK):
			next.Close()
			return nil, &HeldError{Path: f.path, Name: name, writer: true}
		case err == nil && statErr == nil && !current:
			next.Close()
			continue
		case err != nil || statErr != nil:
			next.Close()
			return nil, fmt.Errorf("lock %s: %w", temporary, errors.Join(err, statErr))
		}
		err = next.Truncate(0)
		if err == nil {
			_, err = fmt.Fprintf(next, "NAME=%s\nSTRATEGY=%s\nSTATE=%s\n", name, strategy, state)
		}
		if err == nil { // everybody may read it, whatever this process's umask
			err = next.Chmod(0o644)
		}
		if err != nil {
			return nil, errors.Join(err, os.Remove(temporary), next.Close())
		}
		return next, nil
	}
}

// lockPath opens the file at path, and locks it unless somebody else has. The lock belongs to
// the inode and not to the name, and a holder replaces the inode at every
// change of state: a lock on one that has lost the name is worth nothing.
func lockPath(path string) (file *os.File, mine bool, err error) {
	for {
		// To read only: who has it open for writing tells who holds it.
		file, err := openRegular(path, os.O_RDONLY)
		if err != nil {
			return nil, false, err
		}
		lockErr := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		current, err := isAt(file, path)
		switch {
		case err != nil:
			file.Close()
			return nil, false, fmt.Errorf("lock coordinator file: %w", err)
		case !current:
			file.Close()
		case lockErr == nil, errors.Is(lockErr, syscall.EWOULDBLOCK):
			return file, lockErr == nil, nil
		default:
			file.Close()
			return nil, false, fmt.Errorf("lock coordinator file %s: %w", path, lockErr)
		}
	}
}

// ownerOnly is the mode of new files: nobody else can lock what they cannot open.
const ownerOnly fs.FileMode = 0o600

// openRegular opens or creates a file, and nothing but a plain file:
// renaming over a symbolic link would leave the link's target unlocked, and
// O_NONBLOCK keeps a named pipe from holding us up.
func openRegular(path string, mode int) (*os.File, error) {
	file, err := os.OpenFile(path, mode|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, ownerOnly)
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
