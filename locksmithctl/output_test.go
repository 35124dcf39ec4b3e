package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/proc"
)

// full returns a file that has no room left, see full(4).
func full(t *testing.T) *os.File {
	t.Helper()
	f, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	must.Do(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

func TestOutputThatCannotBeWrittenIsAFailure(t *testing.T) {
	t.Parallel()
	server := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{})
	wantSuccess(t, runOne(t, server, "lock", "a"))
	for _, args := range []string{
		"", "help", "help lock", "-help", "--help", "lock -help", "-version", "status -version",
		"completion", "completion bash", "completion zsh", "completion fish", "completion powershell",
		"__complete st", "__complete -", "__complete unlock -",
		"config", "window", "status", "status -o wide", "status -o json", "status -o yaml", "status -all-groups", "status -watch",
		"set-max 1", "unlock -older-than 1s -yes",
	} {
		t.Run(args, func(t *testing.T) {
			run := func(stdout *os.File) (string, error) {
				cmd := exec.CommandContext(t.Context(), "locksmithctl", append([]string{"-root=" + t.TempDir(), "-endpoint=" + server.Endpoint()}, strings.Fields(args)...)...)
				cmd.Env = append(os.Environ(), nowVariable+"=2100-01-01T00:00:00Z") // when every slot has been held for long
				var stderr bytes.Buffer
				cmd.Stdout, cmd.Stderr = stdout, &stderr
				err := cmd.Run()
				return stderr.String(), err
			}
			var exit *exec.ExitError
			if stderr, err := run(full(t)); !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(stderr, "no space left on device") {
				t.Errorf("into a full file, it ends with %v and says %q", err, stderr)
			}
			read, write := pipe(t)
			read.Close()
			if stderr, err := run(write); err == nil {
				t.Errorf("into a pipe that nobody reads, it ends with success and says %q", stderr)
			}
		})
	}
	t.Run("a note beside the result", func(t *testing.T) {
		cmd := exec.CommandContext(t.Context(), "locksmithctl", "-endpoint="+server.Endpoint(), "unlock", "-expired")
		cmd.Stderr = full(t)
		var exit *exec.ExitError
		if err := cmd.Run(); !errors.As(err, &exit) || exit.ExitCode() != 1 {
			t.Errorf("it ends with %v", err)
		}
	})
}

// A command that nohup(1) starts ignores hang-ups, and one that a script runs in the background ignores interrupts.
func TestSignalsThatAreIgnoredFromTheStartStayIgnored(t *testing.T) {
	t.Parallel()
	server := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{})
	wantSuccess(t, runOne(t, server, "lock", "a"))
	proxy := etcdtest.MustProxy(t, server)
	cmd := exec.Command("sh", "-c", `trap "" HUP INT; exec locksmithctl -endpoint=`+proxy.Endpoint()+` wait`)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	p, err := proc.Start(cmd)
	must.Do(t, err)
	t.Cleanup(p.Kill)
	must.Eventually(t, patience, "a connection to etcd", func() bool { return proxy.Connections() > 0 })
	for _, s := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT} {
		must.Do(t, p.Signal(s))
	}
	wantSuccess(t, runOne(t, server, "unlock", "a"))
	<-p.Done()
	if p.Err() != nil {
		t.Errorf("it ended with %v: %s", p.Err(), said.String())
	}
}

func TestSuggestedCommandsAreQuoted(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "lb-1.example/x_y": `lb-1.example/x_y`, "prod db": `'prod db'`, "$(reboot)": `'$(reboot)'`, "it's": `'it'\''s'`, "a;b": `'a;b'`,
	} {
		if got := shellWord(text); got != want {
			t.Errorf("%q is written %s, want %s", text, got, want)
		}
	}
}
