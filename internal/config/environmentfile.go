package config

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/locksmithd/locksmith/internal/readfile"
	"github.com/locksmithd/locksmith/systemd"
)

// maxFileSize bounds what is read of an environment file, in bytes. A real update.conf has a few hundred; systemd
// itself stops at 64 MiB.
const maxFileSize = 1 << 20

// assignment is a variable that an environment file sets, and the line (from 1) on which its name begins.
type assignment struct {
	name, value string
	line        int
	raw         string // the value as it is written
}

// ignoredLine is a line that systemd ignores: a comment, or one without "=" or without the name of a variable
// before it.
type ignoredLine struct {
	text string
	line int
}

// environmentFile is what systemd makes of a file named by EnvironmentFile=.
type environmentFile struct {
	path        string
	assignments []assignment // in the order of the file; the last of a name wins
	ignored     []ignoredLine
	comments    []ignoredLine
	missing     bool // there is no such file
}

// readEnvironmentFile reads and parses the file at path. A file that does not exist counts as empty, as it does for
// systemd's "EnvironmentFile=-PATH". Every error names the file.
func readEnvironmentFile(path string) (environmentFile, error) {
	data, err := readfile.Read(path, maxFileSize)
	if readfile.Absent(err) {
		return environmentFile{path: path, missing: true}, nil
	}
	if err != nil {
		return environmentFile{}, err
	}
	f, err := parseEnvironmentFile(data)
	if err != nil {
		return environmentFile{}, fmt.Errorf("read %s: %w", path, err)
	}
	f.path = path
	return f, nil
}

// parseEnvironmentFile parses the syntax of EnvironmentFile= as systemd 254 and newer read it. systemd.exec(5)
// describes the syntax, and a test compares this parser with systemd itself:
//
//   - A line that begins with "#" or ";" is a comment up to its end. (Before
//     version 254, systemd continued a comment that ended in a backslash.)
//   - NAME=VALUE, with white space around NAME and around VALUE dropped. A
//     carriage return ends a line just as a line feed does.
//   - VALUE is any number of quoted parts, then optionally an unquoted rest, which goes
//     up to the end of the line and in which quotes mean themselves.
//   - In single quotes nothing is special. In double quotes, a backslash before
//     one of " \ ` $ stands for that character, before a line feed it removes
//     both, and before anything else it means itself. Quoted parts may span lines.
//   - Unquoted, a backslash makes the next character mean itself; before the end
//     of a line it removes both.
//   - A line without "=", or with a name that no variable can have, is ignored.
//
// A name or value that is not UTF-8, or a NUL byte anywhere, is an error, and nothing of the file counts, as for
// systemd.
func parseEnvironmentFile(data []byte) (environmentFile, error) {
	if i := bytes.IndexByte(data, 0); i >= 0 {
		return environmentFile{}, fmt.Errorf("line %d holds a NUL byte; it must be text in UTF-8", 1+bytes.Count(data[:i], []byte{'\n'}))
	}
	var f environmentFile
	r := &fileReader{data: data, line: 1}
	for {
		r.skip(" \t\r\n")
		c, ok := r.peek()
		if !ok {
			return f, nil
		}
		if c == '#' || c == ';' {
			f.comments = append(f.comments, ignoredLine{line: r.line, text: string(r.until("\r\n"))})
			continue
		}
		line := r.line
		name, found := r.name()
		if !found {
			f.ignored = append(f.ignored, ignoredLine{text: name, line: line})
			continue
		}
		start := r.pos
		value := r.value()
		raw := string(data[start:r.pos])
		if !validUTF8(name) || !validUTF8(value) {
			return environmentFile{}, fmt.Errorf("line %d is not UTF-8", line)
		}
		if !systemd.VariableName(name) {
			f.ignored = append(f.ignored, ignoredLine{text: name, line: line})
			continue
		}
		f.assignments = append(f.assignments, assignment{name: name, value: value, line: line, raw: raw})
	}
}

// fileReader walks over the bytes of an environment file and counts its lines.
type fileReader struct {
	data []byte
	pos  int
	line int
}

func (r *fileReader) peek() (c byte, ok bool) {
	if r.pos == len(r.data) {
		return 0, false
	}
	return r.data[r.pos], true
}

func (r *fileReader) next() (c byte, ok bool) {
	c, ok = r.peek()
	if ok {
		r.pos++
		if c == '\n' {
			r.line++
		}
	}
	return c, ok
}

// skip passes over any bytes of set.
func (r *fileReader) skip(set string) {
	for {
		c, ok := r.peek()
		if !ok || strings.IndexByte(set, c) < 0 {
			return
		}
		r.next()
	}
}

// until passes over everything before the next byte of set.
func (r *fileReader) until(set string) []byte {
	start := r.pos
	for {
		c, ok := r.peek()
		if !ok || strings.IndexByte(set, c) >= 0 {
			return r.data[start:r.pos]
		}
		r.next()
	}
}

// name reads up to and including the "=" of an assignment. If the line has none, found is false, and name is the
// line. A "=" at the very beginning counts as a part of the name, as for systemd.
func (r *fileReader) name() (name string, found bool) {
	first, _ := r.next()
	name = strings.TrimRight(string([]byte{first})+string(r.until("=\r\n")), " \t")
	if c, ok := r.peek(); !ok || c != '=' {
		return name, false
	}
	r.next()
	return name, true
}

// value reads the value of an assignment, up to the end of its last line.
func (r *fileReader) value() string {
	var value []byte
	for {
		r.skip(" \t")
		c, ok := r.peek()
		if !ok || c == '\n' || c == '\r' {
			return string(value)
		}
		switch c {
		case '\'':
			r.next()
			value = append(value, r.until("'")...)
			r.next()
		case '"':
			r.next()
			value = r.doubleQuoted(value)
		default:
			return string(r.unquoted(value))
		}
	}
}

// doubleQuoted appends the rest of a part in double quotes to value.
func (r *fileReader) doubleQuoted(value []byte) []byte {
	for {
		c, ok := r.next()
		switch {
		case !ok || c == '"':
			return value
		case c != '\\':
			value = append(value, c)
			continue
		}
		c, ok = r.next()
		switch {
		case !ok:
			return value
		case strings.IndexByte("\"\\`$", c) >= 0:
			value = append(value, c)
		case c != '\n':
			value = append(value, '\\', c)
		}
	}
}

// unquoted appends the unquoted rest of a line to value. White space at its end is dropped, unless a backslash
// protects it.
func (r *fileReader) unquoted(value []byte) []byte {
	keep := len(value) // what a backslash or an earlier part has made part of the value
	for {
		c, ok := r.peek()
		if !ok || c == '\n' || c == '\r' {
			return value[:keep+len(bytes.TrimRight(value[keep:], " \t"))]
		}
		r.next()
		if c == '\\' {
			c, ok = r.next()
			if ok && c != '\n' && c != '\r' {
				value = append(value, c)
			}
			keep = len(value)
			continue
		}
		value = append(value, c)
	}
}

// validUTF8 is utf8.ValidString, except that it refuses the noncharacters (Unicode, chapter 23.7) as systemd does.
func validUTF8(s string) bool {
	noncharacter := func(c rune) bool { return c&0xfffe == 0xfffe || 0xfdd0 <= c && c <= 0xfdef }
	return utf8.ValidString(s) && !strings.ContainsFunc(s, noncharacter)
}
