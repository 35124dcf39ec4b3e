package etcdtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmithd/locksmith/test/proc"
)

// Options are the options of a server.
type Options struct {
	// Binary is the path of the etcd program, from the function Binary.
	Binary string
	// Dir is an existing folder for the data, log and certificates of this server alone, which does not
	// remove it.
	Dir string
	// TLS, if set, is required of clients. Members do not use it among themselves.
	TLS *TLS
	// Args are additional flags of etcd, such as --quota-backend-bytes=1000000.
	Args []string
}

// Server is one etcd process, running or not. It keeps its endpoint and data over Kill, Stop and Restart. It is
// safe for concurrent use.
type Server struct {
	o       Options
	name    string
	address string // host:port for clients
	peer    string // host:port for members
	args    []string
	tlsArgs []string
	members []*Server // of its cluster, including itself

	mu     sync.Mutex
	proc   *proc.Process
	client *clientv3.Client
	auth   bool
}

// Start runs a cluster of one and waits, as long as ctx allows, until it is healthy. An error contains the end of
// etcd's log.
func Start(ctx context.Context, o Options) (*Server, error) {
	members, err := StartCluster(ctx, 1, o)
	if err != nil {
		return nil, err
	}
	return members[0], nil
}

// StartCluster runs n members in separate folders below o.Dir, and waits, as long as ctx allows, until each is
// healthy.
func StartCluster(ctx context.Context, n int, o Options) ([]*Server, error) {
	version, err := versionOf(o.Binary)
	if err != nil {
		return nil, fmt.Errorf("start etcd: %w", err)
	}
	for {
		members, err := startCluster(ctx, n, o, version)
		if errors.Is(err, errAddressInUse) && ctx.Err() == nil {
			continue // with other addresses
		}
		if err != nil {
			return nil, fmt.Errorf("start etcd: %w", err)
		}
		return members, nil
	}
}

func startCluster(ctx context.Context, n int, o Options, version string) (_ []*Server, err error) {
	var members []*Server
	var cluster []string
	for i := range n {
		s := &Server{o: o, name: fmt.Sprintf("etcd%d", i+1)}
		host := RandomHost()
		if s.address, err = FreeAddress(host); err != nil {
			return nil, err
		}
		if s.peer, err = FreeAddress(host); err != nil {
			return nil, err
		}
		members = append(members, s)
		cluster = append(cluster, s.name+"=http://"+s.peer)
	}
	for _, s := range members {
		s.members = members
	}
	defer func() {
		if err != nil {
			for _, s := range members {
				s.Close()
			}
		}
	}()
	for _, s := range members {
		// Remove what an attempt on other addresses has left.
		if err := os.RemoveAll(s.dir()); err != nil {
			return nil, err
		}
		if err := os.MkdirAll(s.dir(), 0o700); err != nil {
			return nil, err
		}
		if err := s.setArgs(strings.Join(cluster, ","), version); err != nil {
			return nil, err
		}
		if err := s.run(); err != nil {
			return nil, err
		}
	}
	for _, s := range members {
		if err := s.WaitHealthy(ctx); err != nil {
			return nil, err
		}
	}
	return members, nil
}

func (s *Server) setArgs(cluster, version string) error {
	s.args = []string{
		"--name=" + s.name,
		"--data-dir=" + s.data(),
		"--listen-client-urls=" + s.Endpoint(),
		"--advertise-client-urls=" + s.Endpoint(),
		"--listen-peer-urls=http://" + s.peer,
		"--initial-advertise-peer-urls=http://" + s.peer,
		"--initial-cluster=" + cluster,
		"--bcrypt-cost=4", // the least: each log-in takes etcd 1 ms of CPU time, and not 60
	}
	if strings.Contains(cluster, ",") {
		// Members on one machine answer quickly, but not always while it is busy.
		s.args = append(s.args, "--heartbeat-interval=50", "--election-timeout=500")
	} else {
		// A single member does not have to wait for others.
		s.args = append(s.args, "--heartbeat-interval=10", "--election-timeout=100")
	}
	if hasNoFsync(version) {
		s.args = append(s.args, "--unsafe-no-fsync")
	}
	s.args = append(s.args, s.o.Args...)
	return s.issue()
}

// hasNoFsync reports whether an etcd version has the flag --unsafe-no-fsync, which 3.5 introduced.
func hasNoFsync(version string) bool {
	minor, ok := strings.CutPrefix(version, "3.")
	if !ok {
		return false
	}
	minor, _, _ = strings.Cut(minor, ".")
	n, err := strconv.Atoi(minor)
	return err == nil && n >= 5
}

// run starts the process with the server's data and address.
func (s *Server) run() error {
	log, err := os.OpenFile(s.LogFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() // the process has its own descriptor
	cmd := exec.Command(s.o.Binary, slices.Concat(s.args, s.tlsArgs)...)
	cmd.Env = []string{} // etcd takes flags from ETCD_* variables
	cmd.Stdout, cmd.Stderr = log, log
	s.mu.Lock()
	defer s.mu.Unlock()
	s.proc, err = proc.Start(cmd)
	return err
}

func (s *Server) dir() string { return filepath.Join(s.o.Dir, s.name) }

func (s *Server) process() *proc.Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proc
}

// Endpoint returns the URL for clients.
func (s *Server) Endpoint() string { return s.scheme() + s.address }

// PeerEndpoint returns the URL for other members, which clients do not use.
func (s *Server) PeerEndpoint() string { return "http://" + s.peer }

func (s *Server) scheme() string {
	if s.o.TLS != nil {
		return "https://"
	}
	return "http://"
}

// LogFile returns the path of etcd's output over all its runs.
func (s *Server) LogFile() string { return filepath.Join(s.dir(), "etcd.log") }

// PID returns the process id of the last run.
func (s *Server) PID() int { return s.process().PID() }

// Running reports whether the process exists, paused or not.
func (s *Server) Running() bool { return s.process().Running() }

// WaitHealthy waits until the server answers a linearizable read, which takes a leader and a quorum. It gives up
// when ctx or the process ends; its error contains the end of the log.
func (s *Server) WaitHealthy(ctx context.Context) error {
	process := s.process()
	client, err := s.Client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-process.Done():
			cancel()
		case <-ctx.Done():
		}
	}()
	for {
		try, cancelTry := context.WithTimeout(ctx, time.Second)
		_, err := client.Get(try, "health")
		cancelTry()
		if err == nil {
			return nil
		}
		if ctx.Err() == nil {
			continue
		}
		tail := s.logTail()
		if process.Running() {
			return fmt.Errorf("%s is not healthy: %w; the end of its log:\n%s", s.name, err, tail)
		}
		if bytes.Contains(tail, []byte("address already in use")) {
			return fmt.Errorf("%s ended (%v): %w", s.name, process.Err(), errAddressInUse)
		}
		return fmt.Errorf("%s ended (%v); the end of its log:\n%s", s.name, process.Err(), tail)
	}
}

// logTail returns the end of the log for messages.
func (s *Server) logTail() []byte {
	data, err := os.ReadFile(s.LogFile())
	if err != nil {
		return []byte(err.Error())
	}
	lines := bytes.SplitAfter(data, []byte("\n"))
	return bytes.Join(lines[max(0, len(lines)-40):], nil)
}

// Kill ends the process at once, as a crash would, and waits until it is gone.
func (s *Server) Kill() { s.process().Kill() }

// Stop ends the process with SIGTERM and waits until it is gone. It kills a process that is still there at the end
// of ctx, and returns an error.
func (s *Server) Stop(ctx context.Context) error {
	process := s.process()
	// A paused process handles SIGTERM only after SIGCONT. The only possible error is that it is gone already.
	_ = process.Signal(syscall.SIGTERM)
	_ = process.Signal(syscall.SIGCONT)
	select {
	case <-process.Done():
		return nil
	case <-ctx.Done():
		process.Kill()
		return fmt.Errorf("stop %s: killed, because SIGTERM did not end it: %w", s.name, ctx.Err())
	}
}

// Restart runs the server again, after killing it if it still runs, and waits until it is healthy. For a member of
// a cluster that takes a quorum.
func (s *Server) Restart(ctx context.Context) error {
	s.Kill()
	if err := s.run(); err != nil {
		return fmt.Errorf("restart %s: %w", s.name, err)
	}
	if err := s.WaitHealthy(ctx); err != nil {
		return fmt.Errorf("restart %s: %w", s.name, err)
	}
	return nil
}

// Pause stops every thread of the process, with its connections open and silent, as on a hung machine.
func (s *Server) Pause(ctx context.Context) error {
	if err := s.process().Pause(ctx); err != nil {
		return fmt.Errorf("pause %s: %w", s.name, err)
	}
	return nil
}

// Resume ends a Pause. The server then answers what clients have sent in the meantime.
func (s *Server) Resume(ctx context.Context) error {
	if err := s.process().Resume(ctx); err != nil {
		return fmt.Errorf("resume %s: %w", s.name, err)
	}
	return nil
}

// Close kills the process and closes the server's client. The files stay.
func (s *Server) Close() {
	s.mu.Lock()
	process, client := s.proc, s.client
	s.client = nil
	s.mu.Unlock()
	if client != nil {
		_ = client.Close() // its error only reports that its context is cancelled
	}
	if process != nil {
		process.Kill()
	}
}
