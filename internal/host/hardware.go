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

// hardwareIDs are where firmware says which machine this is: the system UUID of SMBIOS, and the serial
// number of a devicetree. Only root can read the first one, and a board has one of them at most.
var hardwareIDs = []string{"/sys/class/dmi/id/product_uuid", "/sys/firmware/devicetree/base/serial-number"}

// containers are files that tell of a container, where all share the hardware: systemd, podman and
// docker make them.
var containers = []string{"/run/systemd/container", "/run/.containerenv", "/.dockerenv"}

// maxHardwareID bounds what is read of such an id, in bytes.
const maxHardwareID = 256

// useless are ids that many machines have, in lower case and without dashes; see isUseless for more.
var useless = []string{
	"03000200040005000006000700080009", // of boards whose vendor left the firmware's example
	"00020003000400050006000700080009", // the same with its first fields in the other byte order
	"12345678123456781234567812345678",
	"1234567890abcdef1234567890abcdef",
	"0123456789abcdef0123456789abcdef",
	"notspecified", "notavailable", "notapplicable", "default", "defaultstring", "none", "unknown",
	"tobefilledbyo.e.m.", "systemserialnumber", "123456789", "0123456789", "1234567890",
}

// hardware returns what stands for the id of the hardware, or "" where none is known that is of this
// machine alone. It is a hash, so that nobody learns from etcd what other programs may take for a secret.
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

// readHardwareID returns the id in a file in one spelling: that of a kernel may change with an update. It is
// "" where there is none.
func readHardwareID(path string) string {
	data, err := readfile.Read(path, maxHardwareID)
	if err != nil {
		return ""
	}
	return strings.ToLower(strings.NewReplacer("-", "", " ", "", "\n", "", "\t", "", "\x00", "").Replace(string(data)))
}

// isUseless reports whether an id does not tell one machine from another: it is one of those that firmware
// comes with, or repeats one character, as all 0 and all f do.
func isUseless(id string) bool {
	return id == "" || strings.Trim(id, id[:1]) == "" || slices.Contains(useless, id)
}
