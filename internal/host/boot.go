package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/locksmithd/locksmith/internal/readfile"
	"github.com/locksmithd/locksmith/systemd"
)

// Boot is one boot of this host. A soft reboot begins another one, although the kernel goes on and /run stays as it is.
type Boot struct {
	ID    string    // different for each boot: the kernel's id, and after soft reboots "+" and how many there were
	Since time.Time // the end of the soft reboot that it began with, by the wall clock of then; else zero

	began   time.Time // the same by elapsed time, so that a step of the clock since does not matter
	counted bool      // soft reboots are counted
}

// SoftSince returns when the boot began, if it began with a soft reboot; else zero. A step of the clock since does not
// matter.
func (b Boot) SoftSince() time.Time { return b.began }

// SameKernel reports whether the kernel of this boot also ran the boot with an id: no more than soft reboots came
// between.
func (b Boot) SameKernel(id string) bool {
	this, _, _ := strings.Cut(b.ID, "+")
	that, _, _ := strings.Cut(id, "+")
	return this == that
}

// ErrSystemd is part of an error of ThisBoot if systemd was asked, and may answer another time.
var ErrSystemd = errors.New("systemd does not answer")

// booted is a folder that is there if systemd has started the host, see sd_booted(3).
const booted = "/run/systemd/system"

// ThisBoot returns the boot that this host is in. Only systemd knows of soft reboots, so it is asked on the system bus.
// None are possible on a host that systemd has not started, and none are known of on a host without a bus.
func ThisBoot(ctx context.Context, root string) (Boot, error) {
	const file = "/proc/sys/kernel/random/boot_id"
	id, err := readKernelFile(root, file)
	if err == nil && id == "" {
		err = fmt.Errorf("%s is empty", filepath.Join(root, file))
	}
	if err != nil {
		return Boot{}, fmt.Errorf("read boot id: %w", err)
	}
	boot := Boot{ID: id}
	if !bySystemd(root) {
		return boot, nil
	}
	conn, err := systemd.ConnectSystemBus(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return boot, nil
	}
	if err == nil {
		defer conn.Close()
		err = boot.addSoftReboots(ctx, systemd.NewLogind(conn))
	}
	if err != nil {
		return Boot{}, fmt.Errorf("find out which boot this is: %w: %w", ErrSystemd, err)
	}
	return boot, nil
}

func (b *Boot) addSoftReboots(ctx context.Context, logind *systemd.Logind) error {
	n, counted, err := logind.SoftReboots(ctx)
	if b.counted = counted; err != nil || n == 0 {
		return err
	}
	b.ID += fmt.Sprintf("+%d", n)
	since, ago, err := logind.UserspaceSince(ctx)
	b.Since, b.began = since, time.Now().Add(-ago)
	return err
}

// bySystemd reports whether systemd has started the host.
func bySystemd(root string) bool {
	_, err := os.Stat(filepath.Join(root, booted))
	return !readfile.Absent(err)
}
