package sentinel

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/locksmithd/locksmith/internal/readfile"
)

const (
	// changes is what matters of what happens in a folder, see inotify(7). What is written into a file counts when that is
	// closed, as after touch(1).
	changes = unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_DELETE | unix.IN_CLOSE_WRITE | unix.IN_ATTRIB | moved
	// moved is what happens to the folder itself; the last one says that events were lost.
	moved = unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_UNMOUNT | unix.IN_IGNORED | unix.IN_Q_OVERFLOW
	// retryAfter is when a folder that could not be watched is tried again.
	retryAfter = time.Minute
)

// Watch sends what the file says, first as it is now and then after each change, until ctx ends. It sends that the host
// needs a reboot once the file has settled, and anything else at once. A receiver that falls behind gets the last
// state. An error means that the kernel cannot watch files for this process.
func (f File) Watch(ctx context.Context) (<-chan State, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch %s: inotify: %w", f.Path, err)
	}
	inotify := os.NewFile(uintptr(fd), "inotify")
	mounts, err := os.OpenFile("/proc/self/mountinfo", os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("watch %s: %w", f.Path, err), inotify.Close())
	}
	w := &watcher{File: f, fd: fd, events: make(chan event), mounts: make(chan struct{}, 1)}
	states := make(chan State)
	go w.readEvents(ctx, inotify)
	go w.readMounts(mounts)
	go func() {
		defer close(states)
		// The goroutines that read them end with that.
		defer mounts.Close()
		defer inotify.Close()
		w.run(ctx, states)
	}()
	return states, nil
}

// watcher is one Watch.
type watcher struct {
	File
	fd     int
	events chan event
	mounts chan struct{} // something was mounted or unmounted

	watch  int    // the number of the watch
	folder string // what it watches: the folder of the file, or the last one on the way there that exists
}

// event is what the kernel says of a folder.
type event struct {
	watch int
	mask  uint32
	name  string // in the folder
}

func (w *watcher) run(ctx context.Context, states chan<- State) {
	var last State
	sent := false
	unwatched := w.arm()
	timer := time.NewTimer(0)
	for {
		next, wait := w.settled(time.Now(), last.Needed)
		if unwatched != nil {
			next, wait = State{Err: unwatched}, retryAfter
		}
		timer.Stop()
		if wait > 0 {
			timer.Reset(wait)
		}
		out := states
		if sent && next.equal(last) {
			out = nil
		}
		for changed := false; !changed; {
			select {
			case <-ctx.Done():
				return
			case out <- next:
				last, sent, changed = next, true, true
			case e := <-w.events:
				if changed = w.matters(e); changed {
					unwatched = w.arm()
				}
			case <-w.mounts:
				unwatched, changed = w.arm(), true
			case <-timer.C:
				if changed = true; unwatched != nil {
					unwatched = w.arm()
				}
			}
		}
	}
}

// equal reports whether two states say the same.
func (s State) equal(o State) bool {
	same := func(a, b error) bool { return a == nil && b == nil || a != nil && b != nil && a.Error() == b.Error() }
	return same(s.Err, o.Err) && same(s.Done, o.Done) && s.Needed == o.Needed && s.Reason == o.Reason &&
		s.Kernel == o.Kernel && s.Soft == o.Soft
}

// arm watches the folder of the file, or the last one on the way there that exists. A folder that is watched already
// keeps its number.
func (w *watcher) arm() error {
	for {
		folder := filepath.Dir(w.Path)
		next := "" // the first folder on the way that does not exist
		number, err := unix.InotifyAddWatch(w.fd, folder, changes|unix.IN_ONLYDIR)
		for readfile.Absent(err) && folder != "/" {
			next, folder = folder, filepath.Dir(folder)
			number, err = unix.InotifyAddWatch(w.fd, folder, changes|unix.IN_ONLYDIR)
		}
		if err != nil {
			return fmt.Errorf("%s is not watched: the folder %s: %w", w.Path, folder, err)
		}
		if w.folder != "" && w.watch != number {
			_, _ = unix.InotifyRmWatch(w.fd, uint32(w.watch)) // an error means that it is gone
		}
		w.watch, w.folder = number, folder
		if _, err := os.Stat(next); next == "" || readfile.Absent(err) {
			return nil
		}
	}
}

// matters reports whether an event may change what the file says, or what is to be watched.
func (w *watcher) matters(e event) bool {
	switch {
	case e.mask&unix.IN_Q_OVERFLOW != 0:
		return true
	case e.watch != w.watch:
		return false
	case e.mask&moved != 0:
		return true
	}
	path := filepath.Join(w.folder, e.name)
	return path == w.Path || path == packages(w.Path) || strings.HasPrefix(w.Path, path+"/")
}

// readEvents reads what the kernel says, until the file is closed.
func (w *watcher) readEvents(ctx context.Context, inotify *os.File) {
	buffer := make([]byte, 4096)
	for {
		n, err := inotify.Read(buffer)
		if err != nil {
			return
		}
		for rest := buffer[:n]; len(rest) >= unix.SizeofInotifyEvent; {
			length := int(binary.NativeEndian.Uint32(rest[12:]))
			name, _, _ := bytes.Cut(rest[unix.SizeofInotifyEvent:][:length], []byte{0})
			e := event{int(int32(binary.NativeEndian.Uint32(rest))), binary.NativeEndian.Uint32(rest[4:]), string(name)}
			rest = rest[unix.SizeofInotifyEvent+length:]
			select {
			case w.events <- e:
			case <-ctx.Done():
				return
			}
		}
	}
}

// readMounts notices changes of the mounts, see proc_pid_mountinfo(5), until the file is closed.
func (w *watcher) readMounts(mounts *os.File) {
	raw, err := mounts.SyscallConn()
	if err != nil {
		return
	}
	for {
		woken := false
		err := raw.Read(func(uintptr) bool { // called once before it waits, and once after
			again := woken
			woken = true
			return again
		})
		if err != nil {
			return
		}
		select {
		case w.mounts <- struct{}{}:
		default:
		}
	}
}
