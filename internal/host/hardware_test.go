package host

import (
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/test/must"
)

const (
	uuid   = "/sys/class/dmi/id/product_uuid"
	serial = "/sys/firmware/devicetree/base/serial-number"
)

func hardwareOf(t *testing.T, files map[string]string) string {
	t.Helper()
	self, disk, err := Self(newRoot(t, files), Boot{ID: "boot-1"})
	must.Do(t, err)
	if disk != nil {
		t.Errorf("there are the tokens %q", disk)
	}
	return self.Hardware
}

func TestHardwareIsKnownByItsFirmware(t *testing.T) {
	const id = "4c4c4544-0034-4a10-8053-b7c04f4e3332"
	want := hardwareOf(t, map[string]string{uuid: id + "\n"})
	if len(want) != 16 || strings.Contains(id, want) {
		t.Errorf("the hardware is %q", want)
	}
	if got := hardwareOf(t, map[string]string{uuid: strings.ToUpper(id) + "\n"}); got != want {
		t.Errorf("as another kernel spells it, it is %q, want %q", got, want)
	}
	if got := hardwareOf(t, map[string]string{uuid: strings.Replace(id, "4c", "4d", 1) + "\n"}); got == "" || got == want {
		t.Errorf("other hardware is %q", got)
	}
	board := hardwareOf(t, map[string]string{serial: "10000000a1b2c3d4\x00"})
	if board == "" || board == want {
		t.Errorf("a board is %q", board)
	}
	if got := hardwareOf(t, map[string]string{uuid: "00000000-0000-0000-0000-000000000000\n", serial: "10000000a1b2c3d4\x00"}); got != board {
		t.Errorf("a board with a useless UUID is %q, want %q", got, board)
	}
}

func TestHardwareIDThatManyMachinesShareIsIgnored(t *testing.T) {
	for _, id := range []string{
		"", "\n",
		"00000000-0000-0000-0000-000000000000\n", "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF\n",
		"03000200-0400-0500-0006-000700080009\n", "00020003-0004-0005-0006-000700080009\n",
		"12345678-1234-5678-1234-567812345678\n", "Not Specified\n", "Default string\n", "To be filled by O.E.M.\n",
	} {
		if got := hardwareOf(t, map[string]string{uuid: id}); got != "" {
			t.Errorf("%q is %q", id, got)
		}
	}
	if got := hardwareOf(t, map[string]string{serial: "0000000000000000\x00"}); got != "" {
		t.Errorf("a board without a number is %q", got)
	}
	for _, container := range containers {
		if got := hardwareOf(t, map[string]string{uuid: "4c4c4544-0034-4a10-8053-b7c04f4e3332\n", container: "docker"}); got != "" {
			t.Errorf("with %s it is %q", container, got)
		}
	}
	if got := hardwareOf(t, nil); got != "" {
		t.Errorf("with no file it is %q", got)
	}
}
