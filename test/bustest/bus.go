package bustest

import (
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
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/locksmithd/locksmith/systemd/buspolicy"
	"github.com/locksmithd/locksmith/test/proc"
	"github.com/locksmithd/locksmith/test/realpart"
)

// daemonBinary is where the distributions install the bus.
const daemonBinary = "/usr/bin/dbus-daemon"

// patience bounds everything that takes milliseconds when it works.
const patience = 10 * time.Second

// Policy says who may do what on a bus.
type Policy int

const (
	// Open allows everything to everybody, as on a session bus.
	Open Policy = iota
	// System is the distributions' default for the system bus: anybody may connect and emit signals, but names
	// and methods are closed, except those that the policies of update_engine, logind and systemd open. The
	// user who started the bus takes the place of root.
	System
	// Bare is System without the policy file of locksmithd.
	Bare
)

// Bus is a dbus-daemon process. Its methods are safe for concurrent use.
type Bus struct {
	dir string // private; holds the configuration and the socket

	mu   sync.Mutex
	proc *proc.Process // nil while the bus is down
}

// Start starts a bus. Close ends it.
func Start(policy Policy) (*Bus, error) {
	if _, err := os.Stat(daemonBinary); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("start a bus: %w", &realpart.Missing{Part: daemonBinary, Remedy: "apt-get install dbus-daemon"})
	}
	// A test's own folder is closed to other users and has a long path; that of a socket has at most 108 bytes.
	dir, err := os.MkdirTemp("", "bus")
	if err != nil {
		return nil, fmt.Errorf("start a bus: %w", err)
	}
	b := &Bus{dir: dir}
	err = os.Chmod(dir, 0o755)
	if err == nil {
		err = os.Mkdir(b.policyDir(), 0o755)
	}
	if err == nil && policy == System {
		err = b.Install()
	}
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

// Install installs the policy file of locksmithd, as its package does. A bus that runs reads it by itself. The user who
// started the bus takes the place of root.
func (b *Bus) Install() error {
	text := strings.ReplaceAll(buspolicy.Content, `user="root"`, fmt.Sprintf(`user="%d"`, os.Geteuid()))
	// The bus reads the folder when something in it changes, and must not find half a file.
	if err := os.WriteFile(filepath.Join(b.dir, buspolicy.Name), []byte(text), 0o644); err != nil {
		return fmt.Errorf("install a policy file: %w", err)
	}
	return os.Rename(filepath.Join(b.dir, buspolicy.Name), filepath.Join(b.policyDir(), buspolicy.Name))
}

// Address returns the address at which the bus listens, before and after restarts: a value for
// DBUS_SYSTEM_BUS_ADDRESS.
func (b *Bus) Address() string { return "unix:path=" + dbus.EscapeBusAddressValue(b.socketPath()) }

// Connect returns a new connection to the bus that delivers signals in order. The caller closes it.
func (b *Bus) Connect() (*dbus.Conn, error) { return connect(b.Address()) }

func connect(address string, more ...dbus.ConnOption) (*dbus.Conn, error) {
	conn, err := dbus.Connect(address, append(more, dbus.WithSignalHandler(dbus.NewSequentialSignalHandler()))...)
	if err != nil {
		return nil, fmt.Errorf("connect to the bus at %s: %w", address, err)
	}
	return conn, nil
}

// Restart starts the bus again at the same address, and kills it first if it runs. Peers have to reconnect by
// themselves, as on a real system.
func (b *Bus) Restart() error {
	if err := b.Kill(); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := os.Remove(b.socketPath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("start a bus: %w", err)
	}
	listening := make(chan struct{}) // dbus-daemon prints its address once it listens
	var stderr bytes.Buffer
	cmd := exec.Command(daemonBinary, "--config-file="+b.configPath(), "--nofork", "--nopidfile", "--print-address")
	cmd.Stdout, cmd.Stderr = onWrite(sync.OnceFunc(func() { close(listening) })), &stderr
	p, err := proc.Start(cmd)
	if err != nil {
		return fmt.Errorf("start a bus: %w", err)
	}
	hung := time.NewTimer(patience)
	defer hung.Stop()
	select {
	case <-listening:
		b.proc = p
		return nil
	case <-p.Done():
		err = errors.New("dbus-daemon ended at once")
	case <-hung.C:
		err = errors.New("dbus-daemon does not report that it listens")
	}
	p.Kill()
	return fmt.Errorf("start a bus: %w: %s", err, strings.TrimSpace(stderr.String()))
}

// onWrite is called at every write.
type onWrite func()

func (f onWrite) Write(p []byte) (int, error) {
	f()
	return len(p), nil
}

// Kill ends the bus without warning (SIGKILL) and waits until it is gone. It does nothing if the bus is down.
func (b *Bus) Kill() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.proc != nil {
		b.proc.Kill()
		b.proc = nil
	}
	return nil
}

// Pause stops the bus (SIGSTOP): it exists but is silent until Resume.
func (b *Bus) Pause() error {
	return b.signal("pause", (*proc.Process).Pause)
}

// Resume ends a Pause.
func (b *Bus) Resume() error {
	return b.signal("resume", (*proc.Process).Resume)
}

func (b *Bus) signal(verb string, send func(*proc.Process, context.Context) error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.proc == nil {
		return fmt.Errorf("%s the bus: it is down", verb)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := send(b.proc, ctx); err != nil {
		return fmt.Errorf("%s the bus: %w", verb, err)
	}
	return nil
}

// Close ends the bus and removes its files.
func (b *Bus) Close() error {
	return errors.Join(b.Kill(), os.RemoveAll(b.dir))
}

func (b *Bus) socketPath() string { return filepath.Join(b.dir, "socket") }
func (b *Bus) configPath() string { return filepath.Join(b.dir, "bus.conf") }
func (b *Bus) policyDir() string  { return filepath.Join(b.dir, "system.d") }

func (b *Bus) config(policy Policy) string {
	var address bytes.Buffer
	// Only TMPDIR can put something into the address that has to be escaped.
	_ = xml.EscapeText(&address, []byte(b.Address()))
	rules := openRules
	if policy != Open {
		rules = strings.ReplaceAll(systemRules, "OWNER", strconv.Itoa(os.Geteuid()))
	}
	return `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
<auth>EXTERNAL</auth>
<listen>` + address.String() + `</listen>
` + rules + `<includedir>system.d</includedir>
</busconfig>
`
}

const openRules = `<policy context="default">
<allow user="*"/>
<allow own="*"/>
<allow send_destination="*"/>
<allow eavesdrop="false"/>
</policy>
`

// systemRules has rules for the same cases as dbus-daemon's own system.conf, then those of the services.
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
<allow own="org.freedesktop.systemd1"/>
<allow send_destination="org.freedesktop.login1"/>
<allow send_destination="org.freedesktop.systemd1"/>
</policy>
`
