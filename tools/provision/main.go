// Command provision puts the files and units of an Ignition configuration below a folder, as
// Ignition does on a host before its first boot: provision ROOT <CONFIG.
//
// The parser of Ignition 0.35 reads versions 2.x of the configuration, that of Ignition 2.24 versions
// 3.x. Their warnings are errors here. Nothing is fetched: a file from a URL becomes an empty one, and
// its path and source go to standard output. Users, disks, and the enabling of units are ignored.
package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	old "github.com/coreos/ignition/config/v2_4"
	"github.com/coreos/ignition/v2/config"
	"github.com/vincent-petithory/dataurl"
)

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "provision:", err)
		os.Exit(1)
	}
}

func run(args []string, in io.Reader, out io.Writer) error {
	if len(args) != 1 {
		return errors.New("usage: provision ROOT <CONFIG")
	}
	data, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	host, err := parse(data)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(args[0])
	if err != nil {
		return err
	}
	defer root.Close()
	return host.put(root, out)
}

// A file gets its content from a URL, compressed with gzip(1) if gzipped.
type file struct {
	path, source string
	gzipped      bool
	mode         fs.FileMode
}

type link struct{ path, target string }

// A host is the content of a configuration of either generation.
type host struct {
	files []file
	links []link
}

// parse reads a configuration of either generation.
func parse(data []byte) (host, error) {
	var c struct{ Ignition struct{ Version string } }
	if err := json.Unmarshal(data, &c); err != nil {
		return host{}, err
	}
	if strings.HasPrefix(c.Ignition.Version, "2.") {
		return parseVersion2(data)
	}
	return parseVersion3(data)
}

func parseVersion2(data []byte) (h host, err error) {
	c, report, err := old.Parse(data)
	if err != nil || len(report.Entries) > 0 {
		return h, errors.Join(err, errors.New(report.String()))
	}
	for _, f := range c.Storage.Files {
		if f.Filesystem != "root" || f.Append {
			return h, fmt.Errorf("%s: only new files of the root file system are supported", f.Path)
		}
		h.files = append(h.files, file{f.Path, f.Contents.Source, f.Contents.Compression == "gzip", mode(f.Mode)})
	}
	for _, l := range c.Storage.Links {
		h.links = append(h.links, link{l.Path, l.Target})
	}
	for _, u := range c.Systemd.Units {
		h.addUnit(u.Name, u.Contents, u.Mask)
		for _, d := range u.Dropins {
			h.addUnit(u.Name+".d/"+d.Name, d.Contents, false)
		}
	}
	return h, nil
}

func parseVersion3(data []byte) (h host, err error) {
	c, report, err := config.Parse(data)
	if err != nil || len(report.Entries) > 0 {
		return h, errors.Join(err, errors.New(report.String()))
	}
	for _, f := range c.Storage.Files {
		if len(f.Append) > 0 {
			return h, fmt.Errorf("%s: only new files are supported", f.Path)
		}
		h.files = append(h.files, file{f.Path, value(f.Contents.Source), value(f.Contents.Compression) == "gzip", mode(f.Mode)})
	}
	for _, l := range c.Storage.Links {
		h.links = append(h.links, link{l.Path, value(l.Target)})
	}
	for _, u := range c.Systemd.Units {
		h.addUnit(u.Name, value(u.Contents), value(u.Mask))
		for _, d := range u.Dropins {
			h.addUnit(u.Name+".d/"+d.Name, value(d.Contents), false)
		}
	}
	return h, nil
}

// value returns *p, or the zero value if p is nil.
func value[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

// mode returns the given mode, or Ignition's default.
func mode(given *int) fs.FileMode {
	if given == nil {
		return 0o644
	}
	return fs.FileMode(*given)
}

// addUnit adds a unit or a drop-in, if it has contents, or masks it.
func (h *host) addUnit(name, contents string, mask bool) {
	at := path.Join("/etc/systemd/system", name)
	switch {
	case mask:
		h.links = append(h.links, link{at, "/dev/null"})
	case contents != "":
		h.files = append(h.files, file{at, dataurl.EncodeBytes([]byte(contents)), false, 0o644})
	}
}

// content decodes a data: URL.
func (f file) content() ([]byte, error) {
	url, err := dataurl.DecodeString(f.source)
	if err != nil {
		return nil, err
	}
	if !f.gzipped {
		return url.Data, nil
	}
	unpacked, err := gzip.NewReader(bytes.NewReader(url.Data))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(unpacked)
}

func (h host) put(root *os.Root, out io.Writer) error {
	for _, f := range h.files {
		var content []byte
		if strings.HasPrefix(f.source, "data:") {
			var err error
			if content, err = f.content(); err != nil {
				return fmt.Errorf("%s: %w", f.path, err)
			}
		} else if f.source != "" {
			fmt.Fprintf(out, "not fetched: %s from %s\n", f.path, f.source)
		}
		name, err := makeFolder(root, f.path)
		if err == nil {
			err = root.WriteFile(name, content, f.mode)
		}
		if err == nil {
			err = root.Chmod(name, f.mode)
		}
		if err != nil {
			return err
		}
	}
	for _, l := range h.links {
		name, err := makeFolder(root, l.path)
		if err == nil {
			err = root.Symlink(l.target, name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// makeFolder makes the folder of an absolute path, and returns the path below root.
func makeFolder(root *os.Root, absolute string) (string, error) {
	name := strings.TrimPrefix(path.Clean(absolute), "/")
	return name, root.MkdirAll(path.Dir(name), 0o755)
}
