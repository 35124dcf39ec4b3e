package fleetlock

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// zincati is the application id of Zincati, de35106b-6ec2-4688-b63a-fddaa156679b.
const zincati = "\xde\x35\x10\x6b\x6e\xc2\x46\x88\xb6\x3a\xfd\xda\xa1\x56\x67\x9b"

// AppID returns the id that Zincati sends for the host with this machine id, the content of /etc/machine-id. The
// machine id cannot be computed from it. It is what `systemd-id128 machine-id -a de35106b6ec24688b63afddaa156679b`
// prints on that host.
func AppID(machineID string) (string, error) {
	key, err := hex.DecodeString(strings.TrimSpace(machineID))
	switch {
	case err != nil || len(key) != 16:
		return "", fmt.Errorf("the machine id is %q: it has to be 32 hexadecimal digits", printable(machineID, maxLength))
	case [16]byte(key) == [16]byte{}:
		return "", errors.New("the machine id is all zeros, which is not an id")
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(zincati))
	id := mac.Sum(nil)[:16]
	id[6] = id[6]&0x0f | 0x40 // version 4 of a UUID
	id[8] = id[8]&0x3f | 0x80 // and its variant
	return hex.EncodeToString(id), nil
}
