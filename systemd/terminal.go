package systemd

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// masters returns the processes that hold the other end of a pseudo-terminal such as "pts/3": a terminal
// emulator, sshd, or run0. The source is proc(5), which users cannot forge, and in which root can read all
// processes; a process that cannot be read is left out. Only processes in this one's mount namespace
// count, because a container numbers terminals of its own.
func masters(proc, tty string) []uint32 {
	number, ok := strings.CutPrefix(tty, "pts/")
	if !ok {
		return nil
	}
	ours, err := os.Readlink(filepath.Join(proc, "self/ns/mnt"))
	if err != nil {
		return nil
	}
	files, _ := filepath.Glob(filepath.Join(proc, "[0-9]*/fdinfo/*")) // the pattern is well-formed
	var found []uint32
	for _, file := range files {
		process := filepath.Dir(filepath.Dir(file))
		pid, err := strconv.ParseUint(filepath.Base(process), 10, 32)
		if err != nil || slices.Contains(found, uint32(pid)) {
			continue
		}
		info, err := os.ReadFile(file)
		if err != nil || !strings.Contains("\n"+string(info), "\ntty-index:\t"+number+"\n") {
			continue
		}
		if theirs, err := os.Readlink(filepath.Join(process, "ns/mnt")); err == nil && theirs == ours {
			found = append(found, uint32(pid))
		}
	}
	return found
}
