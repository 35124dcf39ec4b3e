package main

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/proc"
)

// demo is a run of the demo, without privilege.
type demo struct {
	*proc.Process
	t      *testing.T
	tmp    string // its TMPDIR
	lines  chan string
	output []string // lines that have been read
	stderr bytes.Buffer
}

// command returns a command that runs the demo as nobody, with a TMPDIR of its own.
func command(t *testing.T, args ...string) (cmd *exec.Cmd, tmp string) {
	t.Helper()
	tmp, err := os.MkdirTemp("", "demo-test-") // t.TempDir is closed to nobody
	must.Do(t, err)
	t.Cleanup(func() { os.RemoveAll(tmp) })
	cmd = exec.Command(filepath.Join(bin, "demo"), args...)
	cmd.Env = []string{asDemo + "=1", "TMPDIR=" + tmp, "TERM=xterm"}
	cmd.Dir = "/"
	if os.Geteuid() == 0 {
		must.Do(t, os.Chown(tmp, nobody, nobody))
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	return cmd, tmp
}

func start(t *testing.T, args ...string) *demo {
	t.Helper()
	cmd, tmp := command(t, args...)
	d := &demo{t: t, tmp: tmp, lines: make(chan string, 10000)}
	read, write, err := os.Pipe()
	must.Do(t, err)
	cmd.Stdout, cmd.Stderr = write, &d.stderr
	d.Process, err = proc.Start(cmd)
	write.Close()
	must.Do(t, err)
	t.Cleanup(d.Kill)
	go func() {
		defer read.Close()
		defer close(d.lines)
		for s := bufio.NewScanner(read); s.Scan(); {
			d.lines <- s.Text()
		}
	}()
	return d
}

// await waits for a line that matches, and returns what its groups match.
func (d *demo) await(pattern string) []string {
	d.t.Helper()
	expression := regexp.MustCompile(pattern)
	timeout := time.After(patience)
	for {
		select {
		case text, ok := <-d.lines:
			if !ok {
				d.t.Fatalf("the demo ended without %q\n%s\n%s", pattern, strings.Join(d.output, "\n"), d.stderr.String())
			}
			d.output = append(d.output, text)
			if found := expression.FindStringSubmatch(text); found != nil {
				return found
			}
		case <-timeout:
			d.t.Fatalf("timed out waiting for %q\n%s", pattern, strings.Join(d.output, "\n"))
		}
	}
}

// end waits for the end and returns the exit status and all standard output.
func (d *demo) end() (status int, stdout string) {
	d.t.Helper()
	must.Receive(d.t, patience, "the end of the demo", d.Done())
	for text := range d.lines {
		d.output = append(d.output, text)
	}
	return proc.ExitStatus(d.Err()), strings.Join(d.output, "\n")
}

// wantFailure waits for the end, and checks that it is a failure with the error want that leaves nothing behind.
func (d *demo) wantFailure(want string) {
	d.t.Helper()
	status, stdout := d.end()
	if status != 1 || !regexp.MustCompile(want).MatchString(d.stderr.String()) || strings.Contains(stdout, "all is well") {
		d.t.Errorf("exit status %d; want 1 and %q on standard error\n%s\n%s", status, want, stdout, d.stderr.String())
	}
	d.wantNothingLeft()
}

func (d *demo) wantNothingLeft() {
	d.t.Helper()
	if left := processesOf(d.t, d.tmp); len(left) > 0 {
		d.t.Errorf("left running: %v", left)
	}
	files, err := os.ReadDir(d.tmp)
	must.Do(d.t, err)
	if len(files) > 0 {
		d.t.Errorf("left on disk: %v", files)
	}
}

// processesOf returns the processes with a folder in their arguments, which all processes of the demo have: pid to
// command line.
func processesOf(t *testing.T, folder string) map[int]string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	must.Do(t, err)
	found := map[int]string{}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil || !bytes.Contains(data, []byte(folder)) {
			continue // or it is gone
		}
		pid, err := strconv.Atoi(strings.Split(f, "/")[2])
		must.Do(t, err)
		found[pid] = string(bytes.ReplaceAll(data, []byte{0}, []byte{' '}))
	}
	return found
}

// kill kills the one process of the demo whose command line matches.
func (d *demo) kill(pattern string) {
	d.t.Helper()
	n := 0
	for pid, line := range processesOf(d.t, d.tmp) {
		if regexp.MustCompile(pattern).MatchString(line) {
			n++
			must.Do(d.t, syscall.Kill(pid, syscall.SIGKILL))
		}
	}
	if n != 1 {
		d.t.Fatalf("%d processes are %q, want 1", n, pattern)
	}
}
