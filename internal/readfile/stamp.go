package readfile

import (
	"fmt"
	"os"
	"strings"
	"syscall"
)

// Stamp returns a text that is another one when one of the files, or what is in one of the folders, has been replaced,
// changed, added or removed. It does not look into folders of folders.
func Stamp(paths ...string) string {
	var b strings.Builder
	for _, path := range paths {
		stamp(&b, path)
		entries, _ := os.ReadDir(path) // of a file, it is an error
		for _, entry := range entries {
			stamp(&b, path+"/"+entry.Name())
		}
	}
	return b.String()
}

func stamp(b *strings.Builder, path string) {
	info, err := os.Stat(path)
	if err != nil {
		fmt.Fprintf(b, "%q: %v\n", path, err)
		return
	}
	fmt.Fprintf(b, "%q: %v %d %d", path, info.Mode(), info.Size(), info.ModTime().UnixNano())
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		fmt.Fprintf(b, " %d %d", sys.Ino, sys.Ctim.Nano())
	}
	b.WriteByte('\n')
}
