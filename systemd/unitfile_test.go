package systemd

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/nspawntest"
	"github.com/locksmithd/locksmith/test/randtest"
)

// randomUnits is a variable with the number of units that the test compares in its container.
const randomUnits = "LOCKSMITH_RANDOM_UNITS"

// TestUnitFilesAreReadAsSystemdReadsThem gives random units with drop-ins to a real systemd, and compares
// the settings that it loads with those that ReadService reads.
func TestUnitFilesAreReadAsSystemdReadsThem(t *testing.T) {
	if n, err := strconv.Atoi(os.Getenv(randomUnits)); err == nil {
		compareUnits(t, n)
		return
	}
	nspawntest.Require(t)
	random := rand.New(rand.NewPCG(randtest.Seed(t), 0))
	m := nspawntest.New(t, "/")
	self, err := os.Executable()
	must.Do(t, err)
	binary, err := os.ReadFile(self)
	must.Do(t, err)
	must.Do(t, os.WriteFile(m.Path("/systemd.test"), binary, 0o755))
	m.Write("/etc/passwd", "root:x:0:0::/root:/bin/sh\nmessagebus:x:101:101::/:/bin/false\n")
	m.Write("/etc/group", "root:x:0:\nmessagebus:x:101:\n")
	m.Write("/etc/hostname", "host\n")
	const units = 400
	for i := range units {
		dir := "/etc/systemd/system/" + unitName(i)
		m.Write(dir, "[Service]\nExecStart=/bin/true\n"+randomUnit(random))
		m.Write(dir+".d/1.conf", randomUnit(random)+"[Service]\n"+randomUnit(random))
	}
	m.Write("/etc/systemd/system/test.service", fmt.Sprintf(`[Unit]
Requires=dbus.service
After=dbus.service
[Service]
Type=oneshot
Environment=%s=%d
ExecStart=/systemd.test -test.v -test.run=^TestUnitFilesAreReadAsSystemdReadsThem$
ExecStopPost=/usr/bin/systemctl --force --force poweroff
StandardOutput=append:/out/log
StandardError=append:/out/log
`, randomUnits, units))
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	_, console, err := m.Boot(ctx, "test.service")
	if log := m.Read("/out/log"); err != nil || !strings.Contains(log, "\n--- PASS: TestUnitFilesAre") {
		t.Errorf("%v\n%s\n%s", err, log, console)
	}
}

func unitName(i int) string { return fmt.Sprintf("random%d.service", i) }

// randomUnit returns lines of a unit file that are nearly valid.
func randomUnit(r *rand.Rand) string {
	pieces := []string{
		"A=", "B=", "A", "_1=x", "1=x", "LOCKSMITHD_GROUP=", "a", "b c", "=", " ", " ", "  ", "\t", "'", "'", `"`, `"`, `\`, `\\`, "\\\n", " \\\n", "\\\n#c\n", "\\\n ;c \\\n",
		`\n`, `\t`, `\s`, `\"`, `\'`, `\x41`, `\x4`, `\101`, `\u00e9`, `\U0001F600`, `\q`, `\000`, "%%", "%n", "%N", "%p", "%H", "é", "#", ";", "$A", "${A}", `"A=b c"`, `'B=c d'`, "\r", "\v",
	}
	var b strings.Builder
	for range r.IntN(6) {
		key, value := "Environment", ""
		switch r.IntN(12) {
		case 0:
			key, value = "ExecStart=\nExecStart", "/bin/true "
		case 1:
			key, value = "EnvironmentFile", []string{"/etc/", "-/etc/", "", "etc/", " -/etc/%n "}[r.IntN(5)]
		case 2:
			key = []string{"PassEnvironment", "UnsetEnvironment"}[r.IntN(2)]
		case 3:
			b.WriteString([]string{"# comment \\\n", "; comment\n", "\n", "no assignment\n", "[Unit]\n", "[Service]\n", "[X-Mine]\n", " [Service] \n", "=x\n"}[r.IntN(9)])
		}
		b.WriteString([]string{"", "", "", " ", "\t"}[r.IntN(5)] + key + []string{"=", "=", " = "}[r.IntN(3)] + value)
		for range r.IntN(6) {
			piece := pieces[r.IntN(len(pieces))]
			if !strings.HasPrefix(key, "ExecStart") || piece != ";" { // ";" would separate two commands
				b.WriteString(piece)
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}

// compareUnits runs in the container.
func compareUnits(t *testing.T, n int) {
	conn, err := ConnectSystemBus(t.Context())
	must.Do(t, err)
	defer conn.Close()
	loaded := 0
	for i := range n {
		systemd, err := LoadedService(t.Context(), conn, unitName(i))
		must.Do(t, err)
		if systemd == nil { // systemd refuses the whole unit
			continue
		}
		loaded++
		files, err := ReadService("/", unitName(i))
		must.Do(t, err)
		files.ManagerEnvironment = systemd.ManagerEnvironment
		for _, s := range []*Service{systemd, files} {
			slices.Sort(s.Environment)
			slices.Sort(s.PassEnvironment)
			slices.Sort(s.UnsetEnvironment)
			s.PassEnvironment = slices.Compact(s.PassEnvironment)
			s.UnsetEnvironment = slices.Compact(s.UnsetEnvironment)
			s.Origins, s.Credentials = nil, nil
			for _, list := range []*[]string{&s.Environment, &s.PassEnvironment, &s.UnsetEnvironment} {
				*list = append([]string{}, *list...)
			}
		}
		if !reflect.DeepEqual(files, systemd) {
			t.Errorf("we read\n%s\nand systemd\n%s\nof", text(files), text(systemd))
			for _, path := range []string{"", ".d/1.conf"} {
				data, err := os.ReadFile(filepath.Join("/etc/systemd/system", unitName(i)) + path)
				must.Do(t, err)
				t.Logf("%q", data)
			}
		}
	}
	if loaded < n/2 {
		t.Errorf("systemd takes %d of %d units", loaded, n)
	}
}

func text(s *Service) string {
	return fmt.Sprintf("%q %q %q %v %q", s.PassEnvironment, s.Environment, s.UnsetEnvironment, s.EnvironmentFiles, s.Command)
}
