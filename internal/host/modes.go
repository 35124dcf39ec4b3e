package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/internal/readfile"
	"github.com/locksmithd/locksmith/internal/safetext"
	"github.com/locksmithd/locksmith/internal/sentinel"
)

// Modes returns how the host can reboot now. It only reads files, since a check that asks logind and the lock has to be
// over in seconds: whether systemd counts soft reboots is known since ThisBoot.
func (b Boot) Modes(root string) policy.Modes {
	m := policy.Modes{Impossible: map[policy.Mode]string{policy.SoftReboot: b.noSoftReboot(root), policy.Kexec: noKexec(root)}}
	m.ForPackages, m.Because = forPackages(root, b)
	return m
}

// noSoftReboot returns why a soft reboot is not possible, "" if it is.
func (b Boot) noSoftReboot(root string) string {
	switch {
	case !bySystemd(root):
		return "this host was not started by systemd"
	case !b.counted:
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

// forPackages returns which reboot is enough for the packages, and why.
func forPackages(root string, boot Boot) (mode policy.Mode, because string) {
	const file = sentinel.Needed
	path := filepath.Join(root, file)
	info, err := os.Stat(path)
	var data []byte
	if err == nil {
		data, err = readfile.Read(path, 4096)
	}
	text := strings.TrimSpace(string(data))
	mode, known := map[string]policy.Mode{"reboot": policy.FullReboot, "soft-reboot": policy.SoftReboot, "kexec": policy.Kexec}[text]
	switch {
	case readfile.Absent(err):
		return policy.FullReboot, "there is no " + file
	case err != nil:
		return policy.FullReboot, safetext.Clean(err.Error())
	case info.ModTime().Before(boot.Since):
		return policy.FullReboot, file + " is from before the last soft reboot"
	case !known:
		return policy.FullReboot, fmt.Sprintf("%s says %.40q, and not reboot, kexec or soft-reboot", file, text)
	}
	return mode, file + " says " + text
}
