package coordinator

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/locksmithd/locksmith/internal/safetext"
)

// HeldError means that another process that may be a coordinator holds the lock.
type HeldError struct {
	Path string
	Name string // NAME= in the file; empty if there is none, or if it may not be the holder's
	PID  int    // of the process that took the lock; 0 if unknown

	writer bool // the process has the file open for writing, and so is a coordinator
	root   bool // the process is root's
}

func (e *HeldError) Error() string {
	process := "an unknown process"
	if e.PID != 0 {
		process = fmt.Sprintf("process %d", e.PID)
		if comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", e.PID)); err == nil {
			process += fmt.Sprintf(" (%s)", safetext.Clean(strings.TrimSpace(string(comm))))
		}
	}
	if e.writer {
		return fmt.Sprintf("%s is held by the reboot coordinator %q, %s: only one may run on a host", e.Path, cmp.Or(e.Name, "unknown"), process)
	}
	if e.root {
		process += " of root"
	}
	if e.Name != "" {
		process += fmt.Sprintf(", and the file names the reboot coordinator %q", e.Name)
	}
	return fmt.Sprintf(`%s is locked by %s: only one reboot coordinator may run on a host; as root, "lslocks" and "fuser -v %[1]s" show which one`, e.Path, process)
}

// findHolder returns who holds the lock on the file, or nil if only processes of users do, which cannot be
// coordinators.
//
// A coordinator is root's, or it could not replace the file. It has written the file, and so has it open for
// writing, which no other user can. A process that has it open for reading only may be a coordinator if it is
// root's, or if that is unknown. A process that took the lock and has ended left the lock to a process that it
// started: that one is not a coordinator.
func findHolder(file *os.File, path string) *HeldError {
	held := &HeldError{Path: path}
	pids := holders(file)
	if len(pids) > 0 {
		held.PID = pids[0]
	}
	writing, err := openForWriting(file)
	if writing {
		held.writer, held.Name = true, nameIn(file)
	}
	if writing || err != nil || len(pids) == 0 {
		return held
	}
	i := slices.IndexFunc(pids, rootHas)
	if i < 0 {
		return nil
	}
	held.root, held.PID, held.Name = true, pids[i], nameIn(file)
	return held
}

// openForWriting reports whether any process has the file open for writing. file itself is open for reading.
// Only if no process has, the kernel grants a read lease, see fcntl(2).
func openForWriting(file *os.File) (bool, error) {
	_, err := unix.FcntlInt(file.Fd(), unix.F_SETLEASE, unix.F_RDLCK)
	if err == nil {
		_, _ = unix.FcntlInt(file.Fd(), unix.F_SETLEASE, unix.F_UNLCK) // as closing does
	}
	if errors.Is(err, unix.EAGAIN) {
		return true, nil
	}
	return false, err
}

// holders returns the processes that have taken a flock(2) on the file, from proc_locks(5). Processes in other
// containers are not among them.
func holders(file *os.File) []int {
	info, err := file.Stat()
	if err != nil {
		return nil
	}
	locks, err := os.Open("/proc/locks")
	if err != nil {
		return nil
	}
	defer locks.Close()
	stat := info.Sys().(*syscall.Stat_t)
	id := fmt.Sprintf("%02x:%02x:%d", unix.Major(stat.Dev), unix.Minor(stat.Dev), stat.Ino)
	var pids []int
	for lines := bufio.NewScanner(locks); lines.Scan(); { // not read at once: users choose how many there are
		fields := strings.Fields(lines.Text())
		if len(fields) < 6 || fields[1] != "FLOCK" || fields[5] != id { // a waiting process has "->" as fields[1]
			continue
		}
		if pid, err := strconv.Atoi(fields[4]); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	return pids
}

// rootHas reports whether root started a process; a set-user-ID program that a user started does not count. The
// sandbox of the daemon's unit hides other users' processes in /proc; but prlimit(2) is allowed only on
// processes whose user ids are all the caller's.
func rootHas(pid int) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err == nil {
		for line := range strings.Lines(string(status)) {
			if ids, ok := strings.CutPrefix(line, "Uid:"); ok {
				return strings.Fields(ids)[0] == "0"
			}
		}
		return true // unknown
	}
	limit := func(pid int) error { return unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, nil) }
	err = limit(pid)
	forbidden := limit(0) != nil // even on this process, so unknown
	return forbidden || !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.ESRCH)
}

// nameIn returns the coordinator's name in the file, "" if there is none.
func nameIn(file *os.File) string {
	head, err := io.ReadAll(io.NewSectionReader(file, 0, 4096))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(head)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "NAME="); ok {
			return value
		}
	}
	return ""
}
