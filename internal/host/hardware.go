package host

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/locksmithd/locksmith/internal/readfile"
)

// hardwareIDs are the files in which firmware identifies the machine: the system UUID of SMBIOS, and the serial
// number of a devicetree. Only root can read the first one, and a board has one of them at most.
var hardwareIDs = []string{"/sys/class/dmi/id/product_uuid", "/sys/firmware/devicetree/base/serial-number"}

// containers are files that exist in a container, which shares the hardware with others: systemd, podman and
// docker create them.
var containers = []string{"/run/systemd/container", "/run/.containerenv", "/.dockerenv"}

// useless are ids that many machines share, in lower case and without dashes; see isUseless for more.
var useless = []string{
	"03000200040005000006000700080009", // of boards whose vendor kept the example of the firmware
	"00020003000400050006000700080009", // the same with its first fields in the other byte order
	"12345678123456781234567812345678",
	"1234567890abcdef1234567890abcdef",
	"0123456789abcdef0123456789abcdef",
	"notspecified", "notavailable", "notapplicable", "default", "defaultstring", "none", "unknown",
	"tobefilledbyo.e.m.", "systemserialnumber", "123456789", "0123456789", "1234567890",
}

// hardware returns a hash of the id of the hardware, or "" if no id is known that only this machine has.
// It is a hash because other programs may use the id as a secret, and anybody may read etcd.
func hardware(root string) string {
	for _, file := range containers {
		if _, err := os.Stat(filepath.Join(root, file)); err == nil {
			return ""
		}
	}
	for _, file := range hardwareIDs {
		id := readHardwareID(filepath.Join(root, file))
		if isUseless(id) {
			continue
		}
		hash := hmac.New(sha256.New, []byte("locksmith hardware id"))
		hash.Write([]byte(id))
		return hex.EncodeToString(hash.Sum(nil)[:8])
	}
	return ""
}

// readHardwareID returns the id in a file in one spelling, because a newer kernel may spell it in another way; "" if
// there is none.
func readHardwareID(path string) string {
	data, err := readfile.Read(path, 256)
	if err != nil {
		return ""
	}
	return strings.ToLower(strings.NewReplacer("-", "", " ", "", "\n", "", "\t", "", "\x00", "").Replace(string(data)))
}

// isUseless reports whether other machines may have the same id: it is a known default of firmware, or repeats one
// character, such as 0 or f.
func isUseless(id string) bool {
	return id == "" || strings.Trim(id, id[:1]) == "" || slices.Contains(useless, id)
}
