package notify

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/locksmithd/locksmith/internal/readfile"
	"github.com/locksmithd/locksmith/internal/replacefile"
)

// DefaultPath is where the file with what is not delivered yet is. ReadWritePaths= of the unit names its folder.
const DefaultPath = "/var/lib/locksmith/notify.json"

const (
	// maxQueue is how many events wait for one way of delivery.
	maxQueue = 50
	// maxFile bounds the file, in bytes: two full queues take less.
	maxFile = 1 << 20
)

// kept is the content of the file.
type kept struct {
	Post    []Event         `json:"post,omitempty"`    // to be sent by HTTP, the oldest first
	Scripts []Event         `json:"scripts,omitempty"` // to be delivered to scripts
	Said    map[Type]string `json:"said,omitempty"`    // Event.Once of the last event of a type
}

// file is the file of a host.
type file struct {
	path string
	// broken is why the file cannot be read or understood. Then it is never overwritten.
	broken error
}

func newFile(root string) *file { return &file{path: filepath.Join(root, DefaultPath)} }

// read returns the content. A missing file is the zero kept.
func (f *file) read() (k kept, err error) {
	data, err := readfile.Read(f.path, maxFile)
	switch {
	case readfile.Absent(err):
		return kept{}, nil
	case err == nil:
		if err = json.Unmarshal(data, &k); err != nil {
			err = fmt.Errorf("read %s: it is not what locksmith wrote: %w", f.path, err)
		}
	}
	if err != nil {
		f.broken = err
		return kept{}, fmt.Errorf("%w; once it is removed, and locksmithd is restarted, a new one is begun", err)
	}
	for _, queue := range []*[]Event{&k.Post, &k.Scripts} {
		*queue = slices.DeleteFunc(*queue, func(e Event) bool { return !slices.Contains(Types(), e.Type) || !validID(e.ID) })
		for i, e := range *queue {
			(*queue)[i] = e.Complete(e.Time)
		}
		*queue = (*queue)[max(0, len(*queue)-maxQueue):]
	}
	for t := range k.Said {
		if !slices.Contains(Types(), t) {
			delete(k.Said, t)
		}
	}
	return k, nil
}

// write replaces the content. After an error the old one is in place.
func (f *file) write(k kept) error {
	if f.broken != nil {
		return nil // which was said when it was read
	}
	data, err := json.Marshal(k)
	if err != nil {
		return fmt.Errorf("write %s: %w", f.path, err)
	}
	return replacefile.Write(f.path, append(data, '\n'), 0o600, 0o700)
}
