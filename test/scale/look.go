package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"
)

// lookEvery is how often somebody looks at most, and Prometheus asks: much more often than anybody does.
const lookEvery = time.Second

// glances are how long answers about the fleet took, by what was asked for.
type glances map[string][]time.Duration

// looker is whoever looks at a rollout: a browser that has the page of "locksmithctl serve" open, and takes it again after
// each event, a Prometheus, and the commands for a terminal.
type looker struct {
	program, endpoint, url, root string

	server *exec.Cmd
	tasks  sync.WaitGroup
	stop   context.CancelFunc

	mu     sync.Mutex
	took   glances
	events int
	err    error // the first
}

// startLooking starts the server, and looks until end is called.
func startLooking(ctx context.Context, program, endpoint, dir string) (*looker, error) {
	program, err := filepath.Abs(program)
	if err != nil {
		return nil, err
	}
	l := &looker{program: program, endpoint: endpoint, root: filepath.Join(dir, "root"), took: glances{}}
	if err := os.MkdirAll(l.root, 0o755); err != nil {
		return nil, err
	}
	l.server = exec.Command(program, "serve", "-root="+l.root, "-endpoint="+endpoint, "-listen=127.0.0.1:0")
	log, err := l.server.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := l.server.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewReader(log)
	first, err := lines.ReadString('\n')
	at := regexp.MustCompile(`at=(http://\S+)`).FindStringSubmatch(first)
	if at == nil {
		return nil, errors.Join(fmt.Errorf("%s serve says %q", program, first), err, l.server.Process.Kill())
	}
	go func() { _, _ = io.Copy(io.Discard, lines) }() // until the server ends
	l.url = at[1]
	ctx, l.stop = context.WithCancel(ctx)
	changed := make(chan struct{}, 1)
	l.tasks.Go(func() { l.listen(ctx, changed) })
	l.tasks.Go(func() { l.look(ctx, changed) })
	return l, nil
}

// listen reads the stream of events.
func (l *looker) listen(ctx context.Context, changed chan<- struct{}) {
	body, err := l.open(ctx, "/api/v1/events")
	if err != nil {
		l.failed(ctx, err)
		return
	}
	defer body.Close()
	lines := bufio.NewScanner(body)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "data:") {
			l.mu.Lock()
			l.events++
			l.mu.Unlock()
			select {
			case changed <- struct{}{}:
			default:
			}
		}
	}
	l.failed(ctx, cmp.Or(lines.Err(), errors.New("the stream of events has ended")))
}

// look asks for everything.
func (l *looker) look(ctx context.Context, changed <-chan struct{}) {
	for {
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
		for _, path := range []string{"/", "/api/v1/plan", "/metrics"} {
			l.time(ctx, path, func() error { _, err := l.get(ctx, path); return err })
		}
		for _, args := range []string{"hosts", "plan"} {
			l.time(ctx, "locksmithctl "+args, func() error {
				out, err := exec.CommandContext(ctx, l.program, "-root="+l.root, "-endpoint="+l.endpoint, args).CombinedOutput()
				if err != nil {
					err = fmt.Errorf("locksmithctl %s: %w: %.500s", args, err, out)
				}
				return err
			})
		}
		select {
		case <-time.After(lookEvery):
		case <-ctx.Done():
			return
		}
	}
}

// time does something and keeps how long it took.
func (l *looker) time(ctx context.Context, name string, do func() error) {
	began := time.Now()
	err := do()
	took := time.Since(began)
	l.failed(ctx, err)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		l.took[name] = append(l.took[name], took)
	}
}

// failed keeps the first error, unless it is the end.
func (l *looker) failed(ctx context.Context, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil && ctx.Err() == nil && l.err == nil {
		l.err = err
	}
}

func (l *looker) open(ctx context.Context, path string) (io.ReadCloser, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, l.url+path, nil)
	if err != nil {
		return nil, err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		return nil, errors.Join(fmt.Errorf("%s: %s", path, answer.Status), answer.Body.Close())
	}
	return answer.Body, nil
}

func (l *looker) get(ctx context.Context, path string) ([]byte, error) {
	body, err := l.open(ctx, path)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return io.ReadAll(body)
}

// done waits until the server shows that all hosts are done.
func (l *looker) done(ctx context.Context, hosts int) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		body, err := l.get(ctx, "/api/v1/hosts?state=idle&per=1")
		if err != nil {
			return fmt.Errorf("the server does not show that all hosts are done: %w", err)
		}
		var list struct{ Total int }
		if err := json.Unmarshal(body, &list); err != nil {
			return err
		}
		if list.Total == hosts {
			return nil
		}
		time.Sleep(lookEvery / 10)
	}
}

// end ends everything. It returns what was seen, the events, and the server's memory in bytes.
func (l *looker) end() (took glances, events int, resident float64, err error) {
	l.stop()
	l.tasks.Wait()
	if err := l.server.Process.Signal(syscall.SIGTERM); err != nil {
		return nil, 0, 0, err
	}
	if err := l.server.Wait(); err != nil {
		return nil, 0, 0, fmt.Errorf("the server: %w", err)
	}
	peak := l.server.ProcessState.SysUsage().(*syscall.Rusage).Maxrss
	return l.took, l.events, float64(peak) * 1024, l.err
}
