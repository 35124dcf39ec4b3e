package kubetest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	"github.com/locksmithd/locksmith/test/proc"
)

// server is one program of the control plane, running or not. It is safe for concurrent use.
type server struct {
	program string
	args    []string
	logFile string

	mu   sync.Mutex
	proc *proc.Process
}

// run starts the program, whose earlier process has ended.
func (s *server) run() error {
	log, err := os.OpenFile(s.logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() // the process has its own descriptor
	cmd := exec.Command(s.program, s.args...)
	cmd.Env = []string{} // no HTTPS_PROXY or KUBECONFIG of the user who runs the test
	cmd.Dir = filepath.Dir(s.logFile)
	cmd.Stdout, cmd.Stderr = log, log
	p, err := proc.Start(cmd)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.proc = p
	return nil
}

func (s *server) process() *proc.Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proc
}

// kill ends the process, if there is one, as a crash would.
func (s *server) kill() {
	if p := s.process(); p != nil {
		p.Kill()
	}
}

// name is the program's, for messages.
func (s *server) name() string { return filepath.Base(s.program) }

// logTail returns the end of the log for messages.
func (s *server) logTail() string {
	data, err := os.ReadFile(s.logFile)
	if err != nil {
		return err.Error()
	}
	lines := bytes.SplitAfter(data, []byte("\n"))
	return fmt.Sprintf("the end of the log of %s:\n%s", s.name(), bytes.Join(lines[max(0, len(lines)-40):], nil))
}
