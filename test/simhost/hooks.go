package simhost

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"syscall"

	"github.com/locksmithd/locksmith/internal/hooks"
	"github.com/locksmithd/locksmith/internal/sentinel"
	"github.com/locksmithd/locksmith/test/bustest"
	"github.com/locksmithd/locksmith/test/proc"
)

// addUnits gives systemd our units. As in the real ones, locksmithctl runs the scripts in the host's folders, and the
// command of LOCKSMITHD_REBOOT_SENTINEL_COMMAND.
func (h *Host) addUnits() {
	for _, p := range hooks.Phases() {
		h.Logind.SetUnit(p.Service(), bustest.Unit{Run: func(ctx context.Context) (int, string) { return h.run(ctx, "hooks", "scripts", string(p)) }})
		if target := p.Target(); target != "" {
			h.Logind.SetUnit(target, bustest.Unit{Requires: []string{p.Service()}})
		}
	}
	h.Logind.SetUnit(sentinel.Unit, bustest.Unit{Run: func(ctx context.Context) (int, string) { return h.run(ctx, "sentinel") }})
}

// withFacts runs a program with the variables in the file of hooks: a shell reads it as systemd does.
const withFacts = `set -a; [ ! -e "$0" ] || . "$0"; exec "$@"`

// run is a unit that runs locksmithctl.
func (h *Host) run(ctx context.Context, args ...string) (exit int, status string) {
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram"}) // the kernel names it
	if err != nil {
		return 1, err.Error()
	}
	defer conn.Close()
	last := make(chan string, 1)
	go func() { last <- lastStatus(conn) }()

	shell := []string{"-c", withFacts, h.Path(hooks.EnvironmentPath), h.o.Locksmithctl, "--root=" + h.o.Dir}
	cmd := exec.Command("/bin/sh", append(shell, args...)...)
	cmd.Env = []string{"NOTIFY_SOCKET=" + conn.LocalAddr().String(), "PATH=/usr/bin:/bin"}
	cmd.Stdout, cmd.Stderr = (*logWriter)(h), (*logWriter)(h)
	unit, err := proc.Start(cmd)
	if err != nil {
		return 1, err.Error()
	}
	defer context.AfterFunc(ctx, func() {
		_ = unit.Signal(syscall.SIGTERM) // an error means that it has ended
	})()
	exit = proc.ExitStatus(unit.Err())
	if err := endOfStatus(conn.LocalAddr()); err != nil {
		return 1, err.Error()
	}
	return exit, <-last
}

// ended is a message that no service sends: it comes after all of a service that has ended.
const ended = "ended"

func endOfStatus(to net.Addr) error {
	conn, err := net.Dial(to.Network(), to.String())
	if err != nil {
		return fmt.Errorf("end the messages of a unit: %w", err)
	}
	defer conn.Close()
	_, err = conn.Write([]byte(ended))
	return err
}

// lastStatus returns the last STATUS= that is sent to a socket before ended.
func lastStatus(conn *net.UnixConn) (status string) {
	for buffer := make([]byte, 1<<16); ; {
		n, err := conn.Read(buffer)
		if err != nil || string(buffer[:n]) == ended {
			return status
		}
		for line := range strings.Lines(string(buffer[:n])) {
			if text, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "STATUS="); ok {
				status = text
			}
		}
	}
}
