package hooks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/internal/program"
	"github.com/locksmithd/locksmith/test/must"
)

// patience is how long a test waits for what has to happen.
const patience = 30 * time.Second

// outcome is what came of a run.
type outcome struct {
	err            error
	stdout, stderr string
	status         []string // "" ends a run that succeeded
}

func (o outcome) lastStatus() string {
	if len(o.status) == 0 {
		return "(none)"
	}
	return o.status[len(o.status)-1]
}

// run runs the scripts of a phase. One that is stopped has time to clean up.
func (h host) run(ctx context.Context, p Phase) outcome { return h.runWith(ctx, p, patience) }

func (h host) runWith(ctx context.Context, p Phase, grace time.Duration) outcome {
	var o outcome
	var stdout, stderr strings.Builder
	r := runner{phase: p, grace: grace, stdout: &stdout, stderr: &stderr,
		status: func(text string) { o.status = append(o.status, text) }}
	o.err = r.runAll(ctx, h.root)
	o.stdout, o.stderr = stdout.String(), stderr.String()
	return o
}

// fails checks that a run failed with a text, which is its last status, too.
func (o outcome) fails(t *testing.T, want string) {
	t.Helper()
	if o.err == nil || o.err.Error() != want {
		t.Errorf("the run ends with %v, want %s", o.err, want)
	}
	if o.lastStatus() != want {
		t.Errorf("the last status is %q, want %q", o.lastStatus(), want)
	}
}

func (o outcome) succeeds(t *testing.T) {
	t.Helper()
	if o.err != nil || o.lastStatus() != "" {
		t.Errorf("the run ends with %v, and the status %q", o.err, o.lastStatus())
	}
}

const d = "/etc/locksmith/before-reboot.d/"

func TestScriptsRunInOrderAndSayWhichOneRuns(t *testing.T) {
	h := newHost(t)
	h.script(d+"20-b", "echo b; pwd; cat")
	h.script(d+"10-a", "echo a; echo aa >&2; echo $LOCKSMITH_PHASE $NOTIFY_SOCKET $LOCKSMITH_VERSION")
	h.link(d+"15-masked", "/dev/null")
	t.Setenv("LOCKSMITH_PHASE", "stale")
	t.Setenv("LOCKSMITH_VERSION", "4230.2.1")
	t.Setenv("NOTIFY_SOCKET", "/of/the/unit")
	o := h.run(t.Context(), BeforeReboot)
	o.succeeds(t)
	if want := "a\naa\nbefore-reboot 4230.2.1\nb\n/\n"; o.stdout != want || o.stderr != "" {
		t.Errorf("the output is %q, and %q, want %q", o.stdout, o.stderr, want)
	}
	if got, want := fmt.Sprintf("%q", o.status), `["10-a is running, 1 of 2" "20-b is running, 2 of 2" ""]`; got != want {
		t.Errorf("the status is %s, want %s", got, want)
	}
}

func TestFirstFailureEndsTheRun(t *testing.T) {
	for _, p := range []Phase{MayReboot, BeforeReboot, AfterReboot} {
		h := newHost(t)
		dir := "/etc/locksmith/" + string(p) + ".d/"
		h.script(dir+"10-a", "echo; echo '  cannot reach the balancer'; echo more; exit 3")
		h.script(dir+"20-b", "echo b")
		o := h.run(t.Context(), p)
		o.fails(t, "10-a: cannot reach the balancer")
		if strings.Contains(o.stdout, "b\n") {
			t.Errorf("%s: the second script runs: %q", p, o.stdout)
		}
	}
}

func TestUndoRunsEveryScriptAndThenFails(t *testing.T) {
	h := newHost(t)
	const dir = "/etc/locksmith/reboot-cancelled.d/"
	h.script(dir+"10-a", "echo no; exit 1")
	h.write(dir+"20-b", "#!/bin/sh\n", 0o644)
	h.script(dir+"30-c", "echo c")
	o := h.run(t.Context(), RebootCancelled)
	if o.err == nil || !strings.HasPrefix(o.err.Error(), "10-a: no; 20-b: it is not executable: chmod +x ") {
		t.Errorf("the run ends with %v", o.err)
	}
	if o.stdout != "no\nc\n" {
		t.Errorf("the output is %q", o.stdout)
	}
}

func TestFailureSaysHowAScriptEnded(t *testing.T) {
	for _, test := range []struct{ name, body, want string }{
		{"exit status", "exit 7", "10-a: exit status 7"},
		{"text", "echo 'no quorum' >&2; exit 1", "10-a: no quorum"},
		{"text without a line break", "printf 'no quorum'; exit 1", "10-a: no quorum"},
		{"blank lines only", "echo; echo ' '; exit 1", "10-a: exit status 1"},
		{"a signal", "kill -9 $$", "10-a: killed by SIGKILL"},
		{"a signal after text", "echo draining; kill -SEGV $$", "10-a: killed by SIGSEGV, after it had printed: draining"},
		{"nothing that a terminal acts upon", `printf '\033[31mred\377\n'; exit 1`, `10-a: \x1b[31mred\xff`},
		{"a long line", "printf %01000d 0; exit 1", "10-a: " + strings.Repeat("0", maxFailure-len("10-a: ")) + "..."},
		{"a missing command", "no-such-command", "10-a: SCRIPT: 2: no-such-command: not found"},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHost(t)
			h.script(d+"10-a", test.body)
			h.run(t.Context(), BeforeReboot).fails(t, strings.ReplaceAll(test.want, "SCRIPT", h.path(d+"10-a")))
		})
	}
}

func TestScriptThatCannotRunFailsTheRun(t *testing.T) {
	for _, test := range []struct {
		name, want string
		make       func(h host, name string)
	}{
		{"not executable", "10-a: it is not executable: chmod +x PATH", func(h host, name string) { h.write(name, "#!/bin/sh\n", 0o644) }},
		{"a directory", "10-a: it is a directory, not a file", func(h host, name string) { must.Do(h, os.Mkdir(h.path(name), 0o755)) }},
		{"no interpreter", "10-a: it has no interpreter: its first line has to be one such as #!/bin/sh", func(h host, name string) { h.write(name, "echo\n", 0o755) }},
		{"a broken program", "10-a: it cannot be started: exec format error", func(h host, name string) { h.write(name, "\x7fELF", 0o755) }},
		{"an interpreter that is not executable", "10-a: it cannot be started: permission denied", func(h host, name string) { h.write(name, "#!/etc/passwd\n", 0o755) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHost(t)
			must.Do(t, os.MkdirAll(h.path(d), 0o755))
			test.make(h, d+"10-a")
			o := h.run(t.Context(), BeforeReboot)
			want := strings.ReplaceAll(test.want, "PATH", h.path(d+"10-a"))
			if o.err == nil || !strings.HasPrefix(want, strings.TrimSuffix(o.err.Error(), "...")) {
				t.Errorf("the run ends with %v, want %s", o.err, want)
			}
		})
	}
}

func TestFolderThatCannotBeListedFailsTheRun(t *testing.T) {
	h := newHost(t)
	h.write("/etc/locksmith/before-reboot.d", "", 0o644)
	o := h.run(t.Context(), BeforeReboot)
	if o.err == nil || !strings.Contains(o.err.Error(), "not a directory") || !strings.Contains(o.lastStatus(), "list scripts: ") {
		t.Errorf("the run ends with %v, and the status %q", o.err, o.lastStatus())
	}
}

func TestScriptThatPrints100MegabytesIsCutAndSucceeds(t *testing.T) {
	h := newHost(t)
	h.script(d+"10-a", "head -c 104857600 /dev/zero | tr '\\0' x; echo end >&2")
	o := h.run(t.Context(), BeforeReboot)
	o.succeeds(t)
	if want := program.MaxOutput + len("\n"); len(o.stdout) != want {
		t.Errorf("%d bytes of the output are passed on, want %d", len(o.stdout), want)
	}
	if want := "locksmithctl: 10-a has printed more than 1024 KiB: the rest is dropped\n"; o.stderr != want {
		t.Errorf("it says %q, want %q", o.stderr, want)
	}
}

// A journal that does not take the output does not fail the script.
func TestOutputThatNobodyTakesDoesNotMatter(t *testing.T) {
	h := newHost(t)
	h.script(d+"10-a", "echo a; echo b")
	must.Do(t, RunScripts(t.Context(), h.root, BeforeReboot, refusing{}, io.Discard, func(string) {}))
}

type refusing struct{}

func (refusing) Write([]byte) (int, error) { return 0, errors.New("refused") }

func TestProcessThatAScriptLeavesBehindIsNotWaitedFor(t *testing.T) {
	h := newHost(t)
	h.script(d+"10-a", "sleep 1000 & echo $!")
	h.script(d+"20-b", "echo b")
	o := h.run(t.Context(), BeforeReboot)
	o.succeeds(t)
	pid, rest, _ := strings.Cut(o.stdout, "\n")
	id, err := strconv.Atoi(pid)
	must.Do(t, err)
	must.Do(t, syscall.Kill(id, syscall.SIGKILL)) // it still runs
	if rest != "b\n" || !strings.Contains(o.stderr, "10-a has ended, and has left processes that hold its output") {
		t.Errorf("the output is %q, and it says %q", o.stdout, o.stderr)
	}
}

// A failure counts also if a process is left behind.
func TestFailureCountsWithAProcessLeftBehind(t *testing.T) {
	h := newHost(t)
	h.script(d+"10-a", "sleep 1000 & echo $! > "+h.path("/pid")+"; echo broken; exit 1")
	h.run(t.Context(), BeforeReboot).fails(t, "10-a: broken")
	pid, err := strconv.Atoi(strings.TrimSpace(h.read("/pid")))
	must.Do(t, err)
	must.Do(t, syscall.Kill(pid, syscall.SIGKILL))
}

// until ends the context once a file exists.
func (h host) until(t *testing.T, name string) context.Context {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
			if _, err := os.Stat(h.path(name)); err == nil {
				break
			}
			time.Sleep(2 * time.Millisecond)
		}
		cancel(errors.New("the time is over"))
	}()
	t.Cleanup(func() { <-done })
	return ctx
}

func TestStoppedScriptCanCleanUp(t *testing.T) {
	h := newHost(t)
	h.script(d+"10-a", "trap 'echo cleaned; exit 0' TERM; touch "+h.path("/runs")+"; sleep 1000 & wait")
	h.script(d+"20-b", "echo b")
	o := h.run(h.until(t, "/runs"), BeforeReboot)
	o.fails(t, "10-a: it was stopped: the time is over")
	if !strings.HasSuffix(o.stdout, "cleaned\n") { // a shell may say that its child was terminated
		t.Errorf("the output is %q", o.stdout)
	}
}

func TestScriptThatIgnoresSIGTERMIsKilled(t *testing.T) {
	h := newHost(t)
	h.script(d+"10-a", "trap '' TERM; touch "+h.path("/runs")+"; while :; do sleep 1000; done")
	h.runWith(h.until(t, "/runs"), BeforeReboot, 10*time.Millisecond).fails(t, "10-a: it was stopped: the time is over")
}

func TestStoppedUndoStartsNoOtherScript(t *testing.T) {
	h := newHost(t)
	const dir = "/etc/locksmith/reboot-cancelled.d/"
	h.script(dir+"10-a", "touch "+h.path("/runs")+"; sleep 1000")
	h.script(dir+"20-b", "echo b")
	o := h.run(h.until(t, "/runs"), RebootCancelled)
	o.fails(t, "10-a: it was stopped: the time is over")
	if strings.Contains(o.stdout, "b") {
		t.Errorf("the output is %q", o.stdout)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	h.run(ctx, RebootCancelled).fails(t, "10-a: it was not started: context canceled")
}

func TestNameOfAScriptCannotHarmATerminal(t *testing.T) {
	h := newHost(t)
	h.script(d+"10-a\x1b[31m", "exit 1")
	h.run(t.Context(), BeforeReboot).fails(t, `10-a\x1b[31m: exit status 1`)
}
