package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/locksmithd/locksmith/systemd"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/proc"
	"github.com/locksmithd/locksmith/test/ptytest"
	"github.com/locksmithd/locksmith/test/realpart"
)

// patience is how long a test waits for something that has to happen.
const patience = 2 * time.Minute

// The variables that make the test binary the demo, and a locksmithd that cheats.
const (
	asDemo  = "LOCKSMITH_TEST_AS_DEMO"
	asCheat = "LOCKSMITH_TEST_AS_CHEAT"
)

// nobody is the user that runs the demo if the tests run as root.
const nobody = 65534

// bin is the folder of the programs, including the demo.
var bin string

func TestMain(m *testing.M) {
	if os.Getenv(asDemo) != "" {
		os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
	}
	if os.Getenv(asCheat) != "" {
		fmt.Fprintln(os.Stderr, cheat())
		os.Exit(1)
	}
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	var err error
	if bin, err = os.MkdirTemp("", "demo-test-"); err == nil {
		defer os.RemoveAll(bin)
		err = fillBin()
	}
	if err != nil {
		return realpart.Status(err)
	}
	return m.Run()
}

// fillBin makes the folder as the Makefile does.
func fillBin() error {
	etcd, err := etcdtest.Binary(etcdtest.Newest)
	if err != nil {
		return err
	}
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w -X main.version=demo", "-o", bin, "../locksmithd", "../locksmithctl")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the programs: %w\n%s", err, out)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return errors.Join(os.Chmod(bin, 0o755), // for nobody
		copyProgram(etcd, filepath.Join(bin, "etcd")),
		copyProgram(self, filepath.Join(bin, "demo")))
}

func copyProgram(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o755)
}

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

func TestFleetTakesAnUpdate(t *testing.T) {
	for _, c := range []struct{ hosts, max int }{{3, 1}, {6, 2}, {2, 5}} {
		t.Run(fmt.Sprintf("%d hosts, max %d", c.hosts, c.max), func(t *testing.T) {
			t.Parallel()
			d := start(t, "-hosts", fmt.Sprint(c.hosts), "-max", fmt.Sprint(c.max), "-down", "200ms")
			status, out := d.end()
			if status != 0 || d.stderr.Len() > 0 {
				t.Fatalf("exit status %d\n%s\n%s", status, out, d.stderr.String())
			}
			d.wantNothingLeft()

			for _, want := range []string{
				`\d\.\d\ds  etcd runs at http://127\.`,
				fmt.Sprintf(`locksmithctl set-max %d prints Old: 1, New: %[1]d\n`, c.max),
				fmt.Sprintf(`all %d hosts announces version`, c.hosts),
				fmt.Sprintf(`\n%d of %[1]d hosts rebooted in \d+\.\d s`, c.hosts),
				fmt.Sprintf(`\n +%d\. host-\d  down at \d+\.\d\d s for \d+\.\d+ m?s`, c.hosts),
				fmt.Sprintf(`\nhosts down at once: at most \d, %d allowed\n`, c.max),
				`nothing died and no slot is held: all is well$`,
			} {
				if !regexp.MustCompile(want).MatchString(out) {
					t.Errorf("%q is not in the output", want)
				}
			}
			// Check by the lines alone, without the referee.
			down, most := 0, 0
			for text := range strings.Lines(out) {
				switch {
				case strings.Contains(text, " goes down "):
					down++
					most = max(most, down)
				case strings.Contains(text, " boots after "):
					down--
				}
			}
			if down != 0 || most < 1 || most > c.max {
				t.Errorf("%d hosts are down at the end; at most %d were, want at most %d", down, most, c.max)
			}
			for i := range c.hosts {
				steps := fmt.Sprintf(`(?s)host-%d  locksmithd starts.*host-%[1]d  idle: .*host-%[1]d  takes a slot.*host-%[1]d  goes down.*host-%[1]d  boots.*host-%[1]d  releases its slot`, i+1)
				if !regexp.MustCompile(steps).MatchString(out) {
					t.Errorf("host-%d lacks a step of its update", i+1)
				}
			}
			if t.Failed() {
				t.Log(out)
			}
		})
	}
}

func TestSignalledDemoLeavesNothingBehind(t *testing.T) {
	for _, c := range []struct {
		signal syscall.Signal
		when   string // the line after which it comes
	}{
		{syscall.SIGINT, "goes down"},
		{syscall.SIGTERM, "goes down"},
		{syscall.SIGHUP, "goes down"},
		{syscall.SIGINT, "etcd runs"},
		{syscall.SIGINT, "locksmithd starts"},
		{syscall.SIGINT, "announces"},
	} {
		t.Run(fmt.Sprintf("%v at %q", c.signal, c.when), func(t *testing.T) {
			t.Parallel()
			d := start(t, "-down", "1h")
			d.await(c.when)
			if c.when == "goes down" {
				// etcd, a bus for each host, a locksmithd for those that are not down.
				if is := processesOf(t, d.tmp); len(is) < 6 {
					t.Errorf("running: %v; want 6 processes and more", is)
				}
			}
			must.Do(t, d.Signal(c.signal))
			d.wantFailure(`^demo: interrupted \(.*\)\n$`)
		})
	}
}

func TestKilledDemoLeavesNothingRunning(t *testing.T) {
	t.Parallel()
	d := start(t, "-down", "1h")
	d.await("goes down")
	if len(processesOf(t, d.tmp)) < 6 {
		t.Error("too few processes to begin with")
	}
	d.Kill()
	// The kernel has sent the signals, which may take a moment.
	must.Eventually(t, patience, "the end of all processes", func() bool { return len(processesOf(t, d.tmp)) == 0 })
}

func TestDemoWhoseReaderGoesLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	cmd, tmp := command(t, "-down", "1h")
	read, write, err := os.Pipe()
	must.Do(t, err)
	d := &demo{t: t, tmp: tmp, lines: make(chan string)}
	close(d.lines)
	cmd.Stdout, cmd.Stderr = write, &d.stderr
	d.Process, err = proc.Start(cmd)
	write.Close()
	must.Do(t, err)
	t.Cleanup(d.Kill)
	must.Do(t, read.Close())
	d.wantFailure(`^demo: `)
}

func TestHostLeftBehindFailsTheDemo(t *testing.T) {
	t.Parallel()
	d := start(t, "-down", "1h", "-timeout", "5s")
	d.wantFailure(`^demo: gave up after 5s: 3 of 3 hosts were left behind: host-1 \(.*\), host-2 \(.*\), host-3 \(.*\)`)
}

func TestDaemonThatDiesFailsTheDemo(t *testing.T) {
	t.Parallel()
	d := start(t, "-down", "1h")
	// A host that is up.
	name := d.await(`(host-\d)  waits`)[1]
	d.kill(`locksmithd --root=.*/` + name + ` `)
	d.wantFailure(`^demo: ` + name + `: locksmithd ended by itself: signal: killed; the end of its log:\n(.*\n)+`)
}

func TestEtcdThatDiesFailsTheDemo(t *testing.T) {
	t.Parallel()
	d := start(t, "-down", "1h", "-timeout", "5s")
	d.await("etcd runs")
	d.kill(`/etcd --name`)
	d.wantFailure(`(?s)^demo: .*etcd ended by itself\n$`)
}

// ctl runs locksmithctl against the etcd of the demo.
func ctl(t *testing.T, endpoint string, args ...string) {
	t.Helper()
	out, err := exec.Command(filepath.Join(bin, "locksmithctl"), append([]string{"-endpoint", endpoint}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("locksmithctl %v: %v\n%s", args, err, out)
	}
}

func TestMoreHostsDownThanAllowedFailTheDemo(t *testing.T) {
	t.Parallel()
	d := start(t, "-down", "1h")
	endpoint := d.await(`etcd runs at (.*)`)[1]
	d.await("goes down")
	ctl(t, endpoint, "set-max", "2")
	d.wantFailure(`^demo: 2 (slots were held|hosts were down) at once, .*but only 1 may be\n`)
}

func TestHostThatLosesItsSlotWhileDownFailsTheDemo(t *testing.T) {
	t.Parallel()
	d := start(t, "-down", "1h", "-hosts", "1")
	endpoint := d.await(`etcd runs at (.*)`)[1]
	d.await("goes down")
	ctl(t, endpoint, "unlock", machineID(0))
	d.wantFailure(`^demo: host-1 lost its slot while it was down\n`)
}

func TestStrangerWithASlotFailsTheDemo(t *testing.T) {
	t.Parallel()
	d := start(t, "-down", "1h", "-max", "2", "-hosts", "1")
	endpoint := d.await(`etcd runs at (.*)`)[1]
	d.await("goes down")
	ctl(t, endpoint, "lock", "f00")
	d.wantFailure(`^demo: "f00" took a slot and is not one of the hosts\n`)
}

// cheat asks for a reboot at once and ignores SIGTERM.
func cheat() error {
	signal.Ignore(syscall.SIGTERM)
	conn, err := dbus.ConnectSystemBus()
	if err != nil {
		return err
	}
	if err := systemd.NewLogind(conn).Reboot(context.Background(), false); err != nil {
		return err
	}
	select {}
}

func TestDaemonThatRebootsUnaskedFailsTheDemo(t *testing.T) {
	t.Parallel()
	folder, err := os.MkdirTemp(bin, "cheat-")
	must.Do(t, err)
	must.Do(t, os.Chmod(folder, 0o755)) // for nobody
	for _, name := range []string{"etcd", "locksmithctl"} {
		must.Do(t, os.Symlink(filepath.Join(bin, name), filepath.Join(folder, name)))
	}
	script := fmt.Sprintf("#!/bin/sh\n%s=1 exec %s/demo \"$@\"\n", asCheat, bin)
	must.Do(t, os.WriteFile(filepath.Join(folder, "locksmithd"), []byte(script), 0o755))
	d := start(t, "-bin", folder, "-hosts", "1")
	d.wantFailure(`^demo: host-1 rebooted without an update\n$`)
}

func TestWrongUsageIsOneSentence(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"-hosts 0", "-hosts is 0: a fleet has from 1 to 200 hosts here"},
		{"-hosts 201", "-hosts is 201: a fleet has from 1 to 200 hosts here"},
		{"-hosts many", `invalid value "many" for flag -hosts: parse error`},
		{"-max 0", "-max is 0: it must be 1 or more, or no host could ever reboot"},
		{"-max -1", "-max is -1: it must be 1 or more, or no host could ever reboot"},
		{"-down -1s", "-down is -1s: it must be 0 or more"},
		{"-timeout -1s", "-timeout is -1s: it must be more than 0"},
		{"-max 1 3", `unexpected argument "3": only flags are taken, and -help shows them`},
		{"-bin /nonexistent", "find locksmithd: stat /nonexistent/locksmithd: no such file or directory; run `make demo`, which builds it, or name its folder with -bin"},
	} {
		t.Run(c.args, func(t *testing.T) {
			cmd, _ := command(t, strings.Fields(c.args)...)
			out, err := cmd.CombinedOutput()
			if proc.ExitStatus(err) != 2 || string(out) != "demo: "+c.want+"\n" {
				t.Errorf("%v: %q, want exit status 2: %q", err, out, c.want)
			}
		})
	}
}

func TestHelpIsNoFailure(t *testing.T) {
	cmd, _ := command(t, "-help")
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("-max")) {
		t.Errorf("%v: %s", err, out)
	}
}

// onTerminal runs the demo on a terminal to its end, and returns what it wrote there. If interrupt is not empty,
// the demo gets a SIGINT once it has written that.
func onTerminal(t *testing.T, env, interrupt string, args ...string) string {
	t.Helper()
	cmd, tmp := command(t, args...)
	cmd.Env = append(cmd.Env, env)
	program, screen := ptytest.Open(t)
	cmd.Stdout, cmd.Stderr = program, program
	d := &demo{t: t, tmp: tmp}
	var err error
	d.Process, err = proc.Start(cmd)
	must.Do(t, err)
	t.Cleanup(d.Kill)
	must.Do(t, program.Close())

	var got []byte
	interrupted := interrupt == ""
	for buffer := make([]byte, 1<<16); ; {
		n, err := screen.Read(buffer)
		got = append(got, buffer[:n]...)
		if !interrupted && bytes.Contains(got, []byte(interrupt)) {
			interrupted = true
			must.Do(t, d.Signal(syscall.SIGINT))
		}
		if errors.Is(err, syscall.EIO) || errors.Is(err, io.EOF) {
			break // no process has the terminal open any more
		}
		must.Do(t, err)
	}
	wantStatus := 0
	if interrupt != "" {
		wantStatus = 1
	}
	if status := proc.ExitStatus(d.Err()); status != wantStatus {
		t.Errorf("exit status %d, want %d\n%s", status, wantStatus, got)
	}
	d.wantNothingLeft()
	return string(got)
}

const (
	entersTable = "\x1b[?1049h\x1b[?25l"
	leavesTable = "\x1b[?25h\x1b[?1049l"
)

func TestTerminalShowsATableAndIsRestored(t *testing.T) {
	for name, interrupt := range map[string]string{"at the end": "", "when interrupted": "  down  "} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args := []string{"-down", "500ms"}
			if interrupt != "" {
				args = []string{"-down", "1h"}
			}
			got := onTerminal(t, "A=B", interrupt, args...)
			table, after, left := strings.Cut(got, leavesTable)
			if !strings.HasPrefix(table, entersTable) || !left || strings.Contains(after, "\x1b") {
				t.Errorf("the terminal is not restored: %q", got)
			}
			for _, want := range []string{"\x1b[H", "HOST    STATE        SINCE  STATUS", "1 down", "  down  "} {
				if !strings.Contains(table, want) {
					t.Errorf("%q is not in the table: %q", want, table)
				}
			}
			want := "all is well\r\n"
			if interrupt != "" {
				want = "demo: interrupted"
			}
			if !strings.Contains(after, want) {
				t.Errorf("%q does not come after the table, but %q", want, after)
			}
		})
	}
}

func TestTerminalShowsPlainLinesIfTheEnvironmentAsksForThem(t *testing.T) {
	for _, env := range []string{"NO_COLOR=1", "TERM=dumb", "TERM="} {
		t.Run(env, func(t *testing.T) {
			t.Parallel()
			got := onTerminal(t, env, "", "-hosts", "1", "-down", "0s")
			if strings.Contains(got, "\x1b") || !strings.Contains(got, "host-1  goes down") {
				t.Errorf("got %q", got)
			}
		})
	}
}
