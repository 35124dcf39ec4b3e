package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/locksmithd/locksmith/test/bustest"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/proc"
)

// The test needs root to run commands as another user.
func TestSendNeedRebootSaysWhoIsNotBelieved(t *testing.T) {
	t.Parallel()
	root, err := os.MkdirTemp("", "locksmithctl") // t.TempDir is for its owner only
	must.Do(t, err)
	t.Cleanup(func() { os.RemoveAll(root) })
	for name, content := range map[string]string{
		"etc/passwd":              "root:x:0:0::/root:/bin/sh\neve:x:65534:65534::/:/bin/sh\n",
		"etc/group":               "root:x:0:\nadmins:x:7777:\nwheel:x:7778:\n",
		"etc/flatcar/update.conf": "# ours\nLOCKSMITHD_TRIGGER_GROUPS=admins\n",
	} {
		path := filepath.Join(root, name)
		must.Do(t, os.MkdirAll(filepath.Dir(path), 0o755))
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	must.Do(t, os.Chmod(root, 0o755))
	unreadable := t.TempDir()
	conf := filepath.Join(root, "etc/flatcar/update.conf")

	for name, test := range map[string]struct {
		root   string
		group  uint32
		env    string
		status int
		says   string
	}{
		"a stranger":                         {root, 7778, "", 1, `locksmithctl: nothing was sent, because locksmithd would not believe user "eve" (uid 65534): only root may announce a reboot, and users in a group of LOCKSMITHD_TRIGGER_GROUPS, which is "admins" (` + conf + ":2)\n"},
		"a member":                           {root, 7777, "", 0, ""},
		"a member as the environment has it": {root, 7778, "LOCKSMITHD_TRIGGER_GROUPS=wheel", 0, ""},
		"a stranger who cannot read the settings": {unreadable, 7778, "", 0, "locksmithctl: warning: it is unknown whether locksmithd believes this user: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bus := bustest.For(t).Bus(bustest.System)
			conn := bustest.For(t).Connect(bus)
			must.Do(t, conn.AddMatchSignal(dbus.WithMatchInterface(bustest.EngineInterface)))
			signals := make(chan *dbus.Signal, 10)
			conn.Signal(signals)
			cmd := exec.Command("/proc/self/exe", "-root="+test.root, "send-need-reboot")
			cmd.Args[0] = "locksmithctl"
			cmd.Dir = "/"
			cmd.Env = []string{"DBUS_SYSTEM_BUS_ADDRESS=" + bus.Address(), test.env}
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: bustest.Nobody, Gid: bustest.Nobody, Groups: []uint32{test.group}}}
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			if err := cmd.Run(); proc.ExitStatus(err) != test.status || !strings.HasPrefix(stderr.String(), test.says) || test.says == "" && stderr.Len() > 0 {
				t.Errorf("it ends with %v and says %q", err, stderr.String())
			}
			must.Do(t, conn.Close())
			sent := 0
			for s := range signals { // until the connection has ended
				if s.Name == bustest.EngineSignal {
					sent++
				}
			}
			if want := 1 - test.status; sent != want {
				t.Errorf("%d signals were sent, want %d", sent, want)
			}
		})
	}
}
