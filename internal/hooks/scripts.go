package hooks

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Script is what one name in the folders of a phase stands for.
type Script struct {
	Name, Path string
	Masked     bool     // Path is a link to /dev/null: nothing of this name runs
	Hides      []string // paths of the same name in weaker folders
	Problem    string   // why the script cannot run, "" if nothing is known to prevent it
}

// maxNames bounds the number of files in a folder.
const maxNames = 1000

// foldersOf returns the folders of a phase's scripts, the strongest first.
func foldersOf(root string, p Phase) (folders []string) {
	for _, dir := range []string{"/etc", "/run", "/usr/lib"} {
		folders = append(folders, filepath.Join(root, dir, "locksmith", string(p)+".d"))
	}
	return folders
}

// Scripts returns the scripts of a phase below root, in the order in which they run: by name. Of several with one name
// that in the strongest folder counts. Files that editors and package managers leave behind are ignored.
func Scripts(root string, p Phase) ([]Script, error) {
	byName := map[string]*Script{}
	var all []*Script
	for _, folder := range foldersOf(root, p) {
		names, err := list(folder)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			path := filepath.Join(folder, name)
			if stronger := byName[name]; stronger != nil {
				stronger.Hides = append(stronger.Hides, path)
				continue
			}
			s := &Script{Name: name, Path: path}
			byName[name] = s
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b *Script) int { return strings.Compare(a.Name, b.Name) })
	scripts := make([]Script, len(all))
	for i, s := range all {
		s.Masked, s.Problem = inspect(root, s.Path)
		scripts[i] = *s
	}
	return scripts, nil
}

// list returns the names of the scripts in a folder, none if it does not exist.
func list(folder string) (names []string, err error) {
	dir, err := os.OpenFile(folder, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list scripts: %w", err)
	}
	defer dir.Close()
	names, err = dir.Readdirnames(maxNames + 1)
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("list scripts: %w", err)
	}
	if len(names) > maxNames {
		return nil, fmt.Errorf("list scripts: %s has more than %d files", folder, maxNames)
	}
	return slices.DeleteFunc(names, leftover), nil
}

// leftover reports whether systemd, too, ignores a file of this name in its own folders of scripts: it is hidden, or a
// backup.
func leftover(name string) bool {
	switch {
	case strings.HasPrefix(name, "."), strings.HasSuffix(name, "~"):
		return true
	case slices.Contains([]string{"lost+found", "aquota.user", "aquota.group"}, name):
		return true
	}
	return slices.Contains([]string{
		".rpmnew", ".rpmsave", ".rpmorig", ".dpkg-old", ".dpkg-new", ".dpkg-tmp", ".dpkg-dist", ".dpkg-bak", ".dpkg-backup",
		".dpkg-remove", ".ucf-new", ".ucf-old", ".ucf-dist", ".swp", ".bak", ".old", ".new",
	}, filepath.Ext(name))
}

// inspect looks for what will prevent a script from running. What only root may read is left for the run to find.
func inspect(root, path string) (masked bool, problem string) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		if target, err := os.Readlink(path); err == nil {
			return false, fmt.Sprintf("it is a link to %s, which does not exist", target)
		}
	}
	if err != nil {
		return false, fmt.Sprintf("it cannot be looked at: %v", errors.Unwrap(err))
	}
	var system unix.Statfs_t
	switch null, err := os.Stat(os.DevNull); {
	case err == nil && os.SameFile(null, info):
		return true, ""
	case info.IsDir():
		return false, "it is a directory, not a file"
	case !info.Mode().IsRegular():
		return false, "it is not a regular file"
	case info.Mode()&0o111 == 0:
		return false, "it is not executable: chmod +x " + path
	case unix.Statfs(path, &system) == nil && system.Flags&unix.ST_NOEXEC != 0:
		return false, "its file system is mounted noexec: put it into /etc or /usr/lib"
	}
	return false, noInterpreter(root, path)
}

// noInterpreter says what is wrong with the beginning of a script.
func noInterpreter(root, path string) string {
	file, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer file.Close()
	start := make([]byte, 256) // as much as the kernel reads, see execve(2)
	n, err := io.ReadFull(file, start)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return fmt.Sprintf("it cannot be read: %v", errors.Unwrap(err))
	}
	start = start[:n]
	if strings.HasPrefix(string(start), "\x7fELF") {
		return ""
	}
	line, _, _ := strings.Cut(string(start), "\n")
	command, found := strings.CutPrefix(line, "#!")
	// Unlike white space of other kinds, a carriage return is a part of the name.
	interpreter, _, _ := strings.Cut(strings.ReplaceAll(strings.Trim(command, " \t"), "\t", " "), " ")
	if !found || interpreter == "" {
		return "it has no interpreter: its first line has to be one such as #!/bin/sh"
	}
	for _, name := range []string{filepath.Join(root, interpreter), interpreter} {
		if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) {
			return ""
		}
	}
	return fmt.Sprintf("its interpreter %q does not exist", interpreter)
}
