// Package readfile reads small files whole, or the start of files, and reads them again when they change.
//
// It guarantees that reading neither waits, as it would for the writer of a pipe, nor takes more memory
// than the caller allows, and that every error names the file.
package readfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// Absent reports whether err, of a call for a file, means that there cannot be such a file.
func Absent(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) }

// Read returns the content of the regular file at path, of at most limit bytes. /dev/null counts as an empty
// file, because an administrator masks a file with it.
func Read(path string, limit int64) ([]byte, error) {
	file, err := Open(path, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return Content(file, limit)
}

// Open opens a file for Content. It does not wait for the writer of a pipe, which Content refuses. flags are added
// to those of open(2), such as syscall.O_NOFOLLOW.
func Open(path string, flags int) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|flags, 0)
	return file, failed(path, err)
}

// Content is Read for an open file.
func Content(file *os.File, limit int64) ([]byte, error) {
	data, err := Start(file, limit+1)
	if err == nil && int64(len(data)) > limit {
		return nil, fmt.Errorf("read %s: it is larger than %d bytes", file.Name(), limit)
	}
	return data, err
}

// Start returns the first bytes of an open file, at most limit of them. Like Read, it takes regular files only.
func Start(file *os.File, limit int64) ([]byte, error) {
	path := file.Name()
	info, err := file.Stat()
	switch {
	case err != nil:
		return nil, failed(path, err)
	case info.IsDir():
		return nil, fmt.Errorf("read %s: it is a directory, not a file", path)
	case !info.Mode().IsRegular():
		if null, err := os.Stat(os.DevNull); err == nil && os.SameFile(null, info) {
			return nil, nil
		}
		return nil, fmt.Errorf("read %s: it is not a regular file", path)
	}
	data, err := io.ReadAll(io.LimitReader(file, limit))
	if err != nil {
		return nil, failed(path, err)
	}
	return data, nil
}

// failed returns err, if there is one, in the form of this package's other errors.
func failed(path string, err error) error {
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		err = pathErr.Err
	}
	if err == nil {
		return nil
	}
	return fmt.Errorf("read %s: %w", path, err)
}
