package main

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"

	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/proc"
	"github.com/locksmithd/locksmith/test/ptytest"
)

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

func TestTerminalKeepsWhatLocksmithctlShowsOfABadUpdate(t *testing.T) {
	t.Parallel()
	got := onTerminal(t, "A=B", "", "-update", "bad", "-hosts", "2", "-down", "100ms")
	table, after, _ := strings.Cut(got, leavesTable)
	for _, want := range []string{"2 hosts take a bad update", "1 waiting, 1 unwell"} {
		if !strings.Contains(table, want) {
			t.Errorf("%q is not in the table: %q", want, table)
		}
	}
	for _, want := range []string{"the rollout has stopped; locksmithctl status -o wide prints\r\n", "10-smoke: the service answers 503\r\n", "all is well\r\n"} {
		if !strings.Contains(after, want) {
			t.Errorf("%q does not come after the table, but %q", want, after)
		}
	}
}
