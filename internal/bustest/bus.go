package bustest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/godbus/dbus/v5"
)

// daemonBinary is where the distributions install the bus.
const daemonBinary = "/usr/bin/dbus-daemon"

// patience bounds everything that takes milliseconds when it works.
const patience = 10 * time.Second

// Policy is who may do what on a bus.
type Policy int

const (
	// Open lets everybody do everything, as on a session bus.
	Open Policy = iota
	// System is the distributions' default for the system bus: anybody may
	// connect and emit signals, but names and methods are closed, apart from
	// the holes that update_engine and logind bring along. The user who
	// started the bus is in the place of root.
	System
)

// Bus is a dbus-daemon process. Its methods are safe for concurrent use.
type Bus struct {
	dir string // our own; holds the configuration and the socket

	mu   sync.Mutex
	proc *process // nil while the bus is down
}

type process struct {
	cmd    *exec.Cmd
	stderr bytes.Buffer
	exited chan struct{}
}

// Start starts a bus. Close ends it.
func Start(policy Policy) (*Bus, error) {
	if _, err := os.Stat(daemonBinary); err != nil {
		return nil, fmt.Errorf("start a bus: %w (it is in the package dbus-daemon, or dbus)", err)
	}
	// Not below a test's own folder, which is closed to other users, and
	// short: the path of a socket has 108 bytes at most.
	dir, err := os.MkdirTemp("", "bus")
	if err != nil {
		return nil, fmt.Errorf("start a bus: %w", err)
	}
	b := &Bus{dir: dir}
	err = os.Chmod(dir, 0o755)
	if err == nil {
		err = os.WriteFile(b.configPath(), []byte(b.config(policy)), 0o644)
	}
	if err == nil {
		err = b.Restart()
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return b, nil
}

// Address is where the bus listens, also after a restart: a value for
// DBUS_SYSTEM_BUS_ADDRESS.
func (b *Bus) Address() string { return "unix:path=" + dbus.EscapeBusAddressValue(b.socketPath()) }

// Connect returns a new connection to the bus that delivers signals in order.
// The caller closes it.
func (b *Bus) Connect() (*dbus.Conn, error) { return connect(b.Address()) }

func connect(address string) (*dbus.Conn, error) {
	conn, err := dbus.Connect(address, dbus.WithSignalHandler(dbus.NewSequentialSignalHandler()))
	if err != nil {
		return nil, fmt.Errorf("connect to the bus at %s: %w", address, err)
	}
	return conn, nil
}

// Restart starts the bus again at the same address, killing it first if it
// runs. Peers have to come back by themselves, as on a real system.
func (b *Bus) Restart() error {
	if err := b.Kill(); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := os.Remove(b.socketPath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("start a bus: %w", err)
	}
	p := &process{exited: make(chan struct{})}
	p.cmd = exec.Command(daemonBinary, "--config-file="+b.configPath(), "--nofork", "--nopidfile", "--print-address")
	p.cmd.Stderr = &p.stderr
	// In a process group of its own, so that a Ctrl-C reaches only us, who
	// then end it in order.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("start a bus: %w", err)
	}
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("start a bus: %w", err)
	}
	// It prints its address once it listens.
	listening := make(chan error, 1)
	go func() {
		_, err := bufio.NewReader(stdout).ReadString('\n')
		listening <- err
		_ = p.cmd.Wait()
		close(p.exited)
	}()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	select {
	case err = <-listening:
	case <-ctx.Done():
		err = errors.New("it does not say that it listens")
	}
	if err != nil {
		_ = p.cmd.Process.Kill()
		<-p.exited
		return fmt.Errorf("start a bus: %w: %s", err, strings.TrimSpace(p.stderr.String()))
	}
	b.proc = p
	return nil
}

// Kill ends the bus without warning (SIGKILL) and waits until it is gone.
// Killing a bus that is down does nothing.
func (b *Bus) Kill() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.proc == nil {
		return nil
	}
	p := b.proc
	b.proc = nil
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill the bus: %w", err)
	}
	<-p.exited
	return nil
}

// Pause stops the bus (SIGSTOP): it is there and says nothing. Resume lets it
// go on.
func (b *Bus) Pause() error { return b.signal(syscall.SIGSTOP) }

// Resume undoes Pause.
func (b *Bus) Resume() error { return b.signal(syscall.SIGCONT) }

func (b *Bus) signal(s syscall.Signal) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.proc == nil {
		return errors.New("signal the bus: it is down")
	}
	if err := b.proc.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("signal the bus: %w", err)
	}
	return nil
}

// Close ends the bus and removes its files.
func (b *Bus) Close() error {
	return errors.Join(b.Kill(), os.RemoveAll(b.dir))
}

func (b *Bus) socketPath() string { return filepath.Join(b.dir, "socket") }
func (b *Bus) configPath() string { return filepath.Join(b.dir, "bus.conf") }

func (b *Bus) config(policy Policy) string {
	var address bytes.Buffer
	// The address of our own making has nothing to escape, but TMPDIR may.
	_ = xml.EscapeText(&address, []byte(b.Address()))
	rules := openRules
	if policy == System {
		rules = strings.ReplaceAll(systemRules, "OWNER", strconv.Itoa(os.Geteuid()))
	}
	return `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
<auth>EXTERNAL</auth>
<listen>` + address.String() + `</listen>
` + rules + `</busconfig>
`
}

const openRules = `<policy context="default">
<allow user="*"/>
<allow own="*"/>
<allow send_destination="*"/>
<allow eavesdrop="false"/>
</policy>
`

// Rules for the same cases as the system.conf that dbus-daemon is shipped with
// has, and after them those of the two services.
const systemRules = `<type>system</type>
<policy context="default">
<allow user="*"/>
<deny own="*"/>
<deny send_type="method_call"/>
<allow send_type="signal"/>
<allow send_requested_reply="true" send_type="method_return"/>
<allow send_requested_reply="true" send_type="error"/>
<allow receive_type="method_call"/>
<allow receive_type="method_return"/>
<allow receive_type="error"/>
<allow receive_type="signal"/>
<allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus"/>
<allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus.Introspectable"/>
<allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus.Properties"/>
<deny send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus" send_member="UpdateActivationEnvironment"/>
</policy>
<policy user="OWNER">
<allow own="com.coreos.update1"/>
<allow send_destination="com.coreos.update1"/>
<allow own="org.freedesktop.login1"/>
<allow send_destination="org.freedesktop.login1"/>
</policy>
`
