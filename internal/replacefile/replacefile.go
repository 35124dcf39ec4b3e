// Package replacefile replaces the content of small files.
//
// It guarantees that a reader sees the old content or the new, never a part, also after a crash or a power failure;
// that the new content is on the disk once Write returns; and that after an error the old content is in place, unless
// the error says that only its folder could not be written to the disk. Two writers lose nothing if each of them holds
// Lock from before it reads the old content until it has written the new one.
package replacefile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/locksmithd/locksmith/internal/backoff"
)

// Write replaces the content of the file at path, or creates it. It creates the file's folder with folderMode if that
// is missing. Every error names the file.
func Write(path string, content []byte, mode, folderMode fs.FileMode) error {
	if err := write(path, content, mode, folderMode); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func write(path string, content []byte, mode, folderMode fs.FileMode) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, folderMode); err != nil {
		return err
	}
	file, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return cause(err)
	}
	_, err = file.Write(content)
	if err == nil {
		err = file.Chmod(mode)
	}
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(file.Name(), path)
		if info, lookErr := os.Lstat(path); err != nil && lookErr == nil && info.IsDir() {
			err = errDirectory
		}
	}
	if err != nil {
		_ = os.Remove(file.Name())
		return cause(err)
	}
	folder, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer folder.Close()
	return folder.Sync()
}

var errDirectory = errors.New("it is a directory, not a file")

// cause returns err without the name of the temporary file, which tells nobody anything.
func cause(err error) error {
	var path *fs.PathError
	var link *os.LinkError
	switch {
	case errors.As(err, &path):
		return path.Err
	case errors.As(err, &link):
		return link.Err
	}
	return err
}

const (
	// patience is how long a writer waits for another one, which takes milliseconds.
	patience   = 5 * time.Second
	retryEvery = 10 * time.Millisecond
)

// Lock keeps others that call it from changing the file at path, and every other file in its folder, until unlock is
// called. It locks the folder (flock), which it creates with folderMode if that is missing. It waits for others for
// five seconds at most, and not beyond the end of ctx; a lock that is free it takes even then. Every error names the
// file.
func Lock(ctx context.Context, path string, folderMode fs.FileMode) (unlock func(), err error) {
	dir, err := openFolder(filepath.Dir(path), folderMode)
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", path, err)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err = syscall.Flock(int(dir.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { dir.Close() }, nil
		}
		busy := errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, syscall.EINTR)
		if busy {
			backoff.Sleep(ctx, retryEvery)
		}
		if !busy || ctx.Err() != nil {
			dir.Close()
			return nil, fmt.Errorf("write %s: wait for another process that changes it: %w", path, err)
		}
	}
}

func openFolder(path string, mode fs.FileMode) (*os.File, error) {
	if err := os.MkdirAll(path, mode); err != nil {
		return nil, err
	}
	return os.Open(path)
}
