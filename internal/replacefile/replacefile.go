// Package replacefile replaces the content of small files.
//
// It guarantees that a reader sees the old content or the new, never a part, also after a crash or a power failure; that
// the new content is on the disk once Write returns; and that after an error the old content is in place, unless the
// error says that only its folder could not be written to the disk. It does not guard against two writers.
package replacefile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Write replaces the content of the file at path, or creates it. It creates the file's folder with folderMode if that is
// missing. Every error names the file.
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
