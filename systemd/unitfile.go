package systemd

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/locksmithd/locksmith/internal/readfile"
)

// unitDirs are the folders in which systemd looks for unit files, strongest first, see systemd.unit(5).
var unitDirs = [...]string{
	"/etc/systemd/system.control", "/run/systemd/system.control", "/run/systemd/transient", "/run/systemd/generator.early",
	"/etc/systemd/system", "/etc/systemd/system.attached", "/run/systemd/system", "/run/systemd/system.attached", "/run/systemd/generator",
	"/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system", "/run/systemd/generator.late",
}

// ReadService reads the unit file and the drop-ins of a service below root, for a caller that cannot ask
// systemd. It returns nil if there is no such unit file. An error names the file that cannot be read.
//
// It does not know what depends on the running system: the environment of systemd itself, drop-ins for
// other names of the unit, and specifiers other than %%, %H, %m, %n, %N and %p, which stay as they are.
func ReadService(root, name string) (*Service, error) {
	var fragment string
	for _, dir := range unitDirs {
		path := filepath.Join(root, dir, name)
		if _, err := os.Lstat(path); err == nil {
			fragment = path
			break
		}
	}
	if fragment == "" {
		return nil, nil
	}
	dropIns := map[string]string{} // paths by file name; the first one of a name hides the others
	for _, kind := range []string{name + ".d", filepath.Ext(name)[1:] + ".d"} {
		for _, dir := range unitDirs {
			dir = filepath.Join(root, dir, kind)
			entries, err := os.ReadDir(dir)
			if errors.Is(err, fs.ErrPermission) {
				return nil, err
			}
			for _, entry := range entries { // none if the folder is missing
				base := entry.Name()
				if _, hidden := dropIns[base]; !hidden && strings.HasSuffix(base, ".conf") && !strings.HasPrefix(base, ".") {
					dropIns[base] = filepath.Join(dir, base)
				}
			}
		}
	}
	paths := []string{fragment}
	for _, base := range slices.Sorted(maps.Keys(dropIns)) {
		paths = append(paths, dropIns[base])
	}
	settings := unitSettings{name: name, root: root}
	for i, path := range paths {
		data, err := readfile.Read(inRoot(root, path), maxUnitFile)
		if err != nil {
			return nil, err
		}
		if i == 0 && len(data) == 0 {
			return &Service{Masked: true}, nil
		}
		settings.read(data, path)
	}
	return &settings.Service, nil
}

// inRoot follows symbolic links, taking an absolute target as one below root.
func inRoot(root, path string) string {
	for range 8 {
		target, err := os.Readlink(path)
		if err != nil || target == os.DevNull {
			break
		}
		if filepath.IsAbs(target) {
			path = filepath.Join(root, target)
		} else {
			path = filepath.Join(filepath.Dir(path), target)
		}
	}
	return path
}

// maxUnitFile bounds the size of a unit file, in bytes.
const maxUnitFile = 1 << 20

// unitSettings collects the settings of a unit file and its drop-ins, which are read in order of
// precedence, weakest first. It ignores what systemd ignores.
type unitSettings struct {
	Service
	name, root string
}

// blanks separate words.
const blanks = " \t\r\n"

// read adds the settings of one file, see systemd.syntax(7).
func (s *unitSettings) read(data []byte, path string) {
	if s.Origins == nil {
		s.Origins, s.Credentials = map[string]string{}, map[string]string{}
	}
	origin := "drop-in " + filepath.Base(path)
	if filepath.Base(path) == s.name {
		origin = "unit " + s.name
	}
	section, pending := "", ""
	for line := range strings.SplitSeq(strings.NewReplacer("\r\n", "\n", "\n\r", "\n", "\r", "\n").Replace(string(data)), "\n") {
		if trimmed := strings.TrimLeft(line, blanks); trimmed != "" && strings.ContainsRune("#;", rune(trimmed[0])) {
			continue // a comment, which may stand between a line and its continuation
		}
		line = pending + line
		if pending = ""; endsInBackslash(line) {
			pending = line[:len(line)-1] + " "
			continue
		}
		line = strings.Trim(line, blanks)
		if strings.HasPrefix(line, "[") {
			section = line
			continue
		}
		if key, value, ok := strings.Cut(line, "="); ok && section == "[Service]" {
			if !s.set(strings.Trim(key, blanks), strings.Trim(value, blanks), origin) {
				return
			}
		}
	}
}

// endsInBackslash reports whether a line is continued: its last backslash is not escaped.
func endsInBackslash(line string) bool {
	return (len(line)-len(strings.TrimRight(line, `\`)))%2 == 1
}

// set applies one setting. It returns false after a mistake that makes systemd ignore the rest of the file.
func (s *unitSettings) set(key, value, origin string) bool {
	switch key {
	case "Environment":
		if value == "" {
			s.Environment = nil
		}
		words, _ := s.words(value, strict)
		for _, word := range words {
			name, value, ok := strings.Cut(word, "=")
			if !ok || !VariableName(name) || !utf8.ValidString(value) {
				continue
			}
			s.Environment = slices.DeleteFunc(s.Environment, func(e string) bool { return strings.HasPrefix(e, name+"=") })
			s.Environment = append(s.Environment, word)
			s.Origins[name] = origin
		}
	case "EnvironmentFile":
		path, optional := strings.CutPrefix(value, "-")
		if path = s.expand(path); value == "" {
			s.EnvironmentFiles = nil
		} else if filepath.IsAbs(path) {
			s.EnvironmentFiles = append(s.EnvironmentFiles, EnvironmentFile{filepath.Clean(path), optional})
		}
	case "PassEnvironment":
		s.PassEnvironment = s.add(s.PassEnvironment, value, literal, VariableName)
	case "UnsetEnvironment":
		s.UnsetEnvironment = s.add(s.UnsetEnvironment, value, strict, func(word string) bool {
			name, value, _ := strings.Cut(word, "=")
			return VariableName(name) && utf8.ValidString(value)
		})
	case "LoadCredential", "LoadCredentialEncrypted", "SetCredential", "SetCredentialEncrypted", "ImportCredential":
		if value == "" {
			clear(s.Credentials)
		} else {
			name, _, _ := strings.Cut(value, ":")
			s.Credentials[name] = origin
		}
	case "ExecStart":
		command := strings.TrimLeft(value, "-:+!|")
		words, ok := s.words(command, relaxed)
		switch {
		case !ok:
			return strings.HasPrefix(value, "-")
		case value == "":
			s.Command = nil
		case len(words) > 0: // replaces an earlier one: only a oneshot service runs several
			s.Command, s.Origins[""] = words, origin
		}
	}
	return true
}

// add appends the valid words of value that list does not have yet. An empty value clears the list.
func (s *unitSettings) add(list []string, value string, e escapes, valid func(string) bool) []string {
	if value == "" {
		return nil
	}
	words, _ := s.words(value, e)
	for _, word := range words {
		if valid(word) && !slices.Contains(list, word) {
			list = append(list, word)
		}
	}
	return list
}

// expand replaces specifiers.
func (s *unitSettings) expand(text string) string {
	if !strings.Contains(text, "%") {
		return text
	}
	file := func(path string) string {
		data, _ := readfile.Read(inRoot(s.root, filepath.Join(s.root, path)), maxUnitFile)
		return strings.TrimSpace(string(data))
	}
	prefix := strings.TrimSuffix(s.name, filepath.Ext(s.name))
	return strings.NewReplacer("%%", "%", "%n", s.name, "%N", prefix, "%p", prefix,
		"%H", file("/etc/hostname"), "%m", file("/etc/machine-id")).Replace(text)
}

// escapes is what a backslash means in a value.
type escapes int

const (
	strict  escapes = iota // it begins an escape sequence; an invalid one is a mistake
	relaxed                // it begins an escape sequence; an invalid one stays as it is
	literal                // the next character stands for itself
)

// words splits a value at white space outside quotes, see "Quoting" in systemd.syntax(7). After a
// mistake ok is false, and words are those before it.
func (s *unitSettings) words(text string, e escapes) (words []string, ok bool) {
	for {
		text = strings.TrimLeft(text, blanks)
		if text == "" {
			return words, true
		}
		word, rest, ok := cutWord(text, e)
		if !ok {
			return words, false
		}
		words, text = append(words, s.expand(word)), rest
	}
}

func cutWord(text string, e escapes) (word, rest string, ok bool) {
	var b strings.Builder
	quote := byte(0)
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\':
			value, n := unescape(text[i:])
			switch {
			case e == literal && i+1 < len(text):
				value, n = text[i+1:i+2], 2
			case n == 0 && e == relaxed:
				value = text[i:min(i+2, len(text))]
				n = len(value)
			case n == 0:
				return "", "", false
			}
			b.WriteString(value)
			i += n - 1
		case c == quote:
			quote = 0
		case quote != 0:
			b.WriteByte(c)
		case c == '\'' || c == '"':
			quote = c
		case strings.IndexByte(blanks, c) >= 0:
			return b.String(), text[i:], true
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), "", quote == 0
}

// unescape returns what an escape sequence at the beginning of text stands for, and its length, which is
// 0 if there is no valid one.
func unescape(text string) (value string, length int) {
	if len(text) < 2 {
		return "", 0
	}
	if i := strings.IndexByte(`abfnrtvs\"'`, text[1]); i >= 0 {
		return "\a\b\f\n\r\t\v \\\"'"[i : i+1], 2
	}
	begin, end, base := 1, 4, 8
	switch text[1] {
	case 'x':
		begin, end, base = 2, 4, 16
	case 'u':
		begin, end, base = 2, 6, 16
	case 'U':
		begin, end, base = 2, 10, 16
	}
	if len(text) < end {
		return "", 0
	}
	n, err := strconv.ParseUint(text[begin:end], base, 32)
	switch {
	case err != nil || n == 0 || n > utf8.MaxRune || base == 8 && n > 255:
		return "", 0
	case end == 4: // a byte
		return string([]byte{byte(n)}), end
	}
	return string(rune(n)), end
}

// VariableName reports whether systemd accepts name as the name of a variable.
func VariableName(name string) bool {
	for i, c := range name {
		if c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}
