package fleetlock_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/fleetlock"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/realpart"
)

func TestAppIDOfKnownMachines(t *testing.T) {
	t.Parallel()
	for machineID, want := range map[string]string{
		"1c09ca98649c4c7abc779cd04c96812e":     "978a225b3d7b40e9acd7ce9b62f68444",
		"3d1219c7c4c5404aaa1f6d2a48adfda4":     "975228d46dc94622b9bbe16671e2b58d",
		" 3D1219C7C4C5404AAA1F6D2A48ADFDA4 \n": "975228d46dc94622b9bbe16671e2b58d",
	} {
		if got, err := fleetlock.AppID(machineID); got != want || err != nil {
			t.Errorf("%q: %q, %v, want %s", machineID, got, err, want)
		}
	}
}

func TestAppIDRefusesWhatIsNotAMachineID(t *testing.T) {
	t.Parallel()
	for machineID, want := range map[string]string{
		"":                                       `the machine id is "": it has to be 32 hexadecimal digits`,
		"uninitialized\n":                        `the machine id is "uninitialized": it has to be 32 hexadecimal digits`,
		"3d1219c7c4c5404aaa1f6d2a48adfda":        `the machine id is "3d1219c7c4c5404aaa1f6d2a48adfda": it has to be 32 hexadecimal digits`,
		"3d1219c7c4c5404aaa1f6d2a48adfda4a4":     `the machine id is "3d1219c7c4c5404aaa1f6d2a48adfda4a4": it has to be 32 hexadecimal digits`,
		"00000000000000000000000000000000":       "the machine id is all zeros, which is not an id",
		"3d1219c7c4c5404a\naa1f6d2a48adfda4\x1b": `the machine id is "3d1219c7c4c5404a aa1f6d2a48adfda4�": it has to be 32 hexadecimal digits`,
	} {
		if got, err := fleetlock.AppID(machineID); got != "" || err == nil || err.Error() != want {
			t.Errorf("%q: %q, %v, want %s", machineID, got, err, want)
		}
	}
}

// systemd computes the id from /etc/machine-id, so each machine id gets an /etc of its own.
func TestAppIDIsThatOfSystemd(t *testing.T) {
	t.Parallel()
	realpart.Must(t, realpart.Root("another /etc/machine-id"), realpart.Tool("systemd-id128", "systemd"), realpart.Tool("unshare", "util-linux"))
	for _, machineID := range []string{
		"1c09ca98649c4c7abc779cd04c96812e", "3d1219c7c4c5404aaa1f6d2a48adfda4", "00000000000000000000000000000001",
		"ffffffffffffffffffffffffffffffff", "0123456789abcdef0123456789abcdef",
	} {
		out, err := exec.CommandContext(t.Context(), "unshare", "--mount", "sh", "-ec", `
			mount -t tmpfs tmpfs /etc
			echo "$1" > /etc/machine-id
			systemd-id128 machine-id -a de35106b6ec24688b63afddaa156679b`, "sh", machineID).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		got, err := fleetlock.AppID(machineID)
		must.Do(t, err)
		if want := strings.TrimSpace(string(out)); got != want {
			t.Errorf("%s: %s, and systemd says %s", machineID, got, want)
		}
	}
}
