package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/internal/readfile"
	"github.com/locksmithd/locksmith/internal/safetext"
)

// The hold files, below root: while one exists, the host does not reboot.
const (
	HoldFile     = "/etc/locksmith/hold"
	BootHoldFile = "/run/locksmith/hold" // until the end of this boot
)

const (
	// holdSize is how much of a hold file is read, in bytes.
	holdSize = 4096
	// holdEnd begins the line of a hold file that says when the hold ends by itself, as in RFC 3339.
	holdEnd = "until="
)

// Holds returns what the hold files say, also those whose time is over. The first line of a file is the reason. A
// file that cannot be read or understood holds the host as well.
func Holds(root string) (holds []policy.Hold) {
	for _, name := range []string{HoldFile, BootHoldFile} {
		path := filepath.Join(root, name)
		// A link that leads nowhere is a hold, too.
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		holds = append(holds, readHold(path))
	}
	return holds
}

func readHold(path string) policy.Hold {
	h := policy.Hold{File: path}
	file, err := readfile.Open(path, 0)
	var data []byte
	if err == nil {
		defer file.Close()
		data, err = readfile.Start(file, holdSize)
	}
	if err != nil {
		h.Err = errors.New(safetext.Clean(strings.TrimPrefix(err.Error(), "read "+path+": ")))
		return h
	}
	n := 0
	for line := range strings.Lines(string(data)) {
		line = strings.TrimRight(line, " \t\r\n")
		end, isEnd := strings.CutPrefix(line, holdEnd)
		switch {
		case isEnd:
			if h.Until, h.Err = time.Parse(time.RFC3339, end); h.Err != nil {
				h.Until, h.Err = time.Time{}, fmt.Errorf("its line %q is not a time such as %s2026-11-29T14:00:00Z, so it does not end by itself", safetext.Clean(line), holdEnd)
			}
		case n == 0:
			h.Reason = safetext.Clean(strings.TrimSpace(line))
		}
		n++
	}
	return h
}

// HoldContent returns the content of the file of a hold.
func HoldContent(h policy.Hold) []byte {
	text := h.Reason + "\n"
	if strings.HasPrefix(text, holdEnd) { // it would be taken for the end
		text = " " + text
	}
	if !h.Until.IsZero() {
		text += holdEnd + h.Until.Format(time.RFC3339) + "\n"
	}
	return []byte(text)
}
