package main

import (
	"fmt"
	"syscall"
)

// spareFiles is for the files that this process and etcd open besides one connection a host.
const spareFiles = 1000

// allowFiles makes sure that this process, and etcd, which inherits the limit, may have a connection open for each
// host.
func allowFiles(hosts int) error {
	need := uint64(hosts + spareFiles)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("read the limit of open files: %w", err)
	}
	// Set the limit even if it is high enough: the Go runtime has raised it for this process, and gives children
	// the old limit unless it was set explicitly.
	limit.Cur = max(limit.Cur, need)
	limit.Max = max(limit.Max, need)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("raise the limit of open files: %d hosts need %d, see ulimit -Hn: %w", hosts, need, err)
	}
	return nil
}
