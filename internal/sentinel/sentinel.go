// Package sentinel asks the host itself whether it needs a reboot.
//
// A [File] is the file by which packages say so: /run/reboot-required on Debian and Ubuntu (Debian Policy, section
// 9.12), /run/reboot-needed on SUSE. What it reports last is what the file says, whoever creates, deletes or replaces
// it, or mounts something over its folder; it reports a need only once the file has been left alone for a while,
// because the file appears in the middle of an installation; and nothing wakes an idle program but a change in the
// file's folder, or of the mounts of the host.
//
// A [Command] says so by its exit status. An [Asker] has systemd run it again and again, outside the daemon's sandbox.
// It reports only what was said since it asked, and takes no failure for an answer, whether the command fails or the
// way to it.
package sentinel

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/locksmithd/locksmith/internal/readfile"
	"github.com/locksmithd/locksmith/internal/safetext"
)

// Settle is how long the file must have been left alone. Debian's packages create it one after another, each at the end
// of its own installation.
const Settle = 30 * time.Second

const (
	// maxText bounds what is read of each file, in bytes, and maxReason the reason that is made of it.
	maxText   = 64 << 10
	maxReason = 300
)

// State is what the file or the command says.
type State struct {
	Needed bool   // the host needs a reboot
	Reason string // why, with the file's name
	Kernel bool   // it needs another kernel, or firmware, and no soft reboot would do
	Soft   bool   // it says that a soft reboot is enough, as SUSE's file does
	Err    error  // why it is not known; then Needed is false
	Done   error  // why a file that is there asks for nothing any more; then Needed is false
}

// A File is the file at Path. The names of the packages that need the reboot are in a file beside it, whose name ends
// in ".pkgs", a line each.
type File struct {
	Path string
	// Settle is how long both files must have been left alone; see [Settle].
	Settle time.Duration
	// Since is when this boot began, if it began with a soft reboot, which leaves the file. What was last changed
	// before that is done, if a soft reboot was enough for it.
	Since time.Time
	// Soft says that a soft reboot is enough where neither the text nor the packages say what they need.
	Soft bool
}

// Read returns what the file says now, whether it has been left alone or not.
func (f File) Read() State {
	s, _ := f.read()
	return s
}

// read returns what the file says, and when it was last changed. That it is there is enough: its text is for people.
func (f File) read() (s State, changed time.Time) {
	info, err := os.Stat(f.Path)
	switch {
	case readfile.Absent(err):
		return State{}, time.Time{}
	case err != nil:
		return State{Err: err}, time.Time{}
	case !info.Mode().IsRegular():
		return State{Err: fmt.Errorf("%s is not a regular file: it does not say that the host needs a reboot", f.Path)}, time.Time{}
	}
	list, changed := packages(f.Path), info.ModTime()
	if info, err := os.Stat(list); err == nil && info.ModTime().After(changed) {
		changed = info.ModTime()
	}
	text, names := oneLine(start(f.Path)), unique(start(list))
	s = State{Needed: true, Reason: f.Path, Soft: text == "soft-reboot"}
	s.Kernel = text == "reboot" || text == "kexec" || slices.ContainsFunc(names, isKernel)
	if changed.Before(f.Since) && !s.Kernel && (f.Soft || s.Soft) {
		return State{Done: fmt.Errorf("%s does not count, because it is from before the last soft reboot: remove it", f.Path)}, changed
	}
	if text != "" {
		s.Reason += ": " + text
	}
	if len(names) > 0 {
		s.Reason += " (" + strings.Join(names, ", ") + ")"
	}
	s.Reason = safetext.Cut(s.Reason, maxReason)
	return s, changed
}

// packages returns the path of the file with the names of the packages.
func packages(path string) string { return path + ".pkgs" }

// start returns the start of a file, "" if it cannot be read.
func start(path string) string {
	file, err := readfile.Open(path, 0)
	if err != nil {
		return ""
	}
	defer file.Close()
	text, _ := readfile.Start(file, maxText)
	return string(text)
}

// oneLine returns a text for people in one line.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// unique returns the lines of a text, each once: Ubuntu's packages add theirs without a look at those before.
func unique(text string) (lines []string) {
	for line := range strings.Lines(text) {
		if line = oneLine(line); line != "" && !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	return lines
}

// isKernel reports whether a package is a kernel, or something that only the start of one loads, by the names that
// Debian, Ubuntu and others use.
func isKernel(name string) bool {
	return strings.HasPrefix(name, "linux-") ||
		slices.ContainsFunc([]string{"kernel", "firmware", "microcode"}, func(part string) bool { return strings.Contains(name, part) })
}

// settled returns what is to be reported at a time, and how long until that may change by itself; 0 for never. A need
// that was reported stands as long as the file does.
func (f File) settled(now time.Time, reported bool) (State, time.Duration) {
	s, changed := f.read()
	if !s.Needed || reported {
		return s, 0
	}
	// A clock that is set back must not make it wait longer.
	if wait := min(f.Settle, changed.Add(f.Settle).Sub(now)); wait > 0 {
		return State{}, wait
	}
	return s, 0
}
