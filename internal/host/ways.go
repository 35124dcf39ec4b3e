package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/internal/readfile"
	"github.com/locksmithd/locksmith/internal/safetext"
	"github.com/locksmithd/locksmith/systemd"
)

// NeededFile is where SUSE's packages say which kind of reboot they need: "reboot", "kexec" or "soft-reboot".
const NeededFile = "/run/reboot-needed"

// Ways returns how this host can reboot now.
func Ways(ctx context.Context, root string, boot Boot, logind *systemd.Logind) policy.Ways {
	w := policy.Ways{Cannot: map[policy.Mode]string{policy.SoftReboot: noSoftReboot(ctx, root, logind), policy.Kexec: noKexec(root)}}
	w.Enough, w.Word = enough(root, boot)
	return w
}

// noSoftReboot returns why a soft reboot is not possible, "" if it is.
func noSoftReboot(ctx context.Context, root string, logind *systemd.Logind) string {
	if !bySystemd(root) {
		return "this host was not started by systemd"
	}
	switch _, counted, err := logind.SoftReboots(ctx); {
	case err != nil:
		return safetext.Clean(err.Error())
	case !counted:
		return "this systemd is older than 256 and does not count soft reboots: nobody could tell whether there was one"
	}
	return ""
}

// noKexec returns why the kernel cannot start another one, "" if it can.
func noKexec(root string) string {
	const file = "/sys/kernel/kexec_loaded"
	switch loaded, err := readKernelFile(root, file); {
	case errors.Is(err, fs.ErrNotExist):
		return "this kernel cannot start another one: there is no " + file
	case err != nil:
		return safetext.Clean(err.Error())
	case loaded != "1":
		return "no kernel is loaded for kexec, see kexec(8)"
	}
	return ""
}

// enough returns which reboot is enough for the packages, and why.
func enough(root string, boot Boot) (mode policy.Mode, word string) {
	path := filepath.Join(root, NeededFile)
	info, err := os.Stat(path)
	var data []byte
	if err == nil {
		data, err = readfile.Read(path, 4096)
	}
	text := strings.TrimSpace(string(data))
	mode, known := map[string]policy.Mode{"reboot": policy.FullReboot, "soft-reboot": policy.SoftReboot, "kexec": policy.Kexec}[text]
	switch {
	case readfile.Absent(err):
		return policy.FullReboot, "there is no " + NeededFile
	case err != nil:
		return policy.FullReboot, safetext.Clean(err.Error())
	case info.ModTime().Before(boot.Since):
		return policy.FullReboot, NeededFile + " is from before the last soft reboot"
	case !known:
		return policy.FullReboot, fmt.Sprintf("%s says %.40q, and not reboot, kexec or soft-reboot", NeededFile, text)
	}
	return mode, NeededFile + " says " + text
}
