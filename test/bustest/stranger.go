package bustest

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/locksmithd/locksmith/test/realpart"
)

// strangerVariable makes this program, run again, a Stranger on the bus at the address in it.
const strangerVariable = "BUSTEST_STRANGER"

// Nobody is the user id and group id that the distributions give to nobody.
const Nobody = 65534

// Stranger is a process of another user on the bus: this program, run again as that user, which takes root.
// Its methods are not safe for concurrent use.
type Stranger struct {
	cmd     *exec.Cmd
	orders  *json.Encoder
	stdin   io.Closer
	answers *bufio.Reader
	name    string
}

// order is a command to a Stranger.
type order struct {
	Emit  Status
	To    string // the only connection that gets the signal; "" for all
	Times int
}

// NewStranger starts a process with a user, a group and supplementary groups, and connects it to the bus. The
// bus rejects users that are not in the machine's user database; Nobody always is. The program has to call
// RunStranger first, a test binary in its TestMain.
func NewStranger(bus *Bus, uid, gid uint32, groups ...uint32) (*Stranger, error) {
	if err := realpart.Root("a process of another user"); err != nil {
		return nil, fmt.Errorf("start a stranger: %w", err)
	}
	// Another user may not search the folders that lead to the binary of a test, but may run it by this path.
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{strangerVariable + "=" + bus.Address()}
	cmd.Dir = "/"
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: uid, Gid: gid, Groups: groups},
		Setpgid:    true,
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start a stranger: %w", err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start a stranger: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start a stranger: %w", err)
	}
	s := &Stranger{cmd: cmd, orders: json.NewEncoder(stdin), stdin: stdin, answers: bufio.NewReader(stdout)}
	if s.name, err = s.answer(); err != nil {
		return nil, errors.Join(fmt.Errorf("start a stranger: %w", err), s.Close())
	}
	return s, nil
}

// Name returns its unique name on the bus.
func (s *Stranger) Name() string { return s.name }

// PID returns its process id.
func (s *Stranger) PID() int { return s.cmd.Process.Pid }

// EmitStatus emits update_engine's signal.
func (s *Stranger) EmitStatus(status Status) error {
	return s.do(order{Emit: status, Times: 1})
}

// Flood emits update_engine's signal many times.
func (s *Stranger) Flood(status Status, times int) error {
	return s.do(order{Emit: status, Times: times})
}

// SendStatus sends update_engine's signal to one connection, which gets it whatever its match rules are.
func (s *Stranger) SendStatus(to string, status Status) error {
	return s.do(order{Emit: status, To: to, Times: 1})
}

// Close ends the process.
func (s *Stranger) Close() error {
	_ = s.stdin.Close() // the process ends when there are no more orders
	hung := time.AfterFunc(patience, func() { _ = s.cmd.Process.Kill() })
	defer hung.Stop()
	if err := s.cmd.Wait(); err != nil {
		return fmt.Errorf("end a stranger: %w", err)
	}
	return nil
}

func (s *Stranger) do(o order) error {
	if err := s.orders.Encode(o); err != nil {
		return fmt.Errorf("order a stranger: %w", err)
	}
	if _, err := s.answer(); err != nil {
		return fmt.Errorf("order a stranger: %w", err)
	}
	return nil
}

func (s *Stranger) answer() (string, error) {
	hung := time.AfterFunc(patience, func() { _ = s.cmd.Process.Kill() })
	defer hung.Stop()
	var a strangerAnswer
	line, err := s.answers.ReadBytes('\n')
	if err != nil {
		return "", fmt.Errorf("it gave no answer: %w (does the program call RunStranger first?)", err)
	}
	if err := json.Unmarshal(line, &a); err != nil {
		return "", fmt.Errorf("it answered %q (does the program call RunStranger first?)", line)
	}
	if a.Error != "" {
		return "", errors.New(a.Error)
	}
	return a.Name, nil
}

type strangerAnswer struct{ Name, Error string }

// RunStranger returns at once in an ordinary process. In a process that NewStranger started it follows orders and
// never returns.
func RunStranger() {
	address := os.Getenv(strangerVariable)
	if address == "" {
		return
	}
	answers := json.NewEncoder(os.Stdout)
	conn, err := connect(address)
	if err != nil {
		_ = answers.Encode(strangerAnswer{Error: err.Error()})
		os.Exit(1)
	}
	_ = answers.Encode(strangerAnswer{Name: conn.Names()[0]})
	orders := json.NewDecoder(os.Stdin)
	for {
		var o order
		if err := orders.Decode(&o); err != nil {
			conn.Close()
			os.Exit(0)
		}
		var a strangerAnswer
		if err := o.follow(conn); err != nil {
			a.Error = err.Error()
		}
		_ = answers.Encode(a)
	}
}

func (o order) follow(conn *dbus.Conn) error {
	values := o.Emit.values()
	for range o.Times {
		if o.To == "" {
			if err := conn.Emit(EnginePath, EngineSignal, values...); err != nil {
				return err
			}
			continue
		}
		if err := SendTo(conn, o.To, EnginePath, EngineSignal, values...); err != nil {
			return err
		}
	}
	return settle(conn)
}
