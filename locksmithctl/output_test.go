package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/proc"
)

// full is a file in which no room is left, see full(4).
func full(t *testing.T) *os.File {
	t.Helper()
	f, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestOutputThatCannotBeWrittenIsAFailure(t *testing.T) {
	t.Parallel()
	server := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{})
	wantAll(t, atOnce(t, server, [][]string{{"lock", "a"}}))
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
				cmd.Env = append(os.Environ(), nowVariable+"=2100-01-01T00:00:00Z") // when every slot is old
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
	t.Run("what is said beside the result", func(t *testing.T) {
		cmd := exec.CommandContext(t.Context(), "locksmithctl", "-endpoint="+server.Endpoint(), "unlock", "-expired")
		cmd.Stderr = full(t)
		var exit *exec.ExitError
		if err := cmd.Run(); !errors.As(err, &exit) || exit.ExitCode() != 1 {
			t.Errorf("it ends with %v", err)
		}
	})
}

// nohup(1) has a command ignore hang-ups, and a shell interrupts for what a script runs in the background.
func TestSignalsThatAreIgnoredFromTheStartStayIgnored(t *testing.T) {
	t.Parallel()
	server := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{})
	wantAll(t, atOnce(t, server, [][]string{{"lock", "a"}}))
	proxy := etcdtest.MustProxy(t, server)
	cmd := exec.Command("sh", "-c", `trap "" HUP INT; exec locksmithctl -endpoint=`+proxy.Endpoint()+` wait`)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	p, err := proc.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	for deadline := time.Now().Add(patience); proxy.Connections() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not ask etcd")
		}
	}
	for _, s := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT} {
		if err := p.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	wantAll(t, atOnce(t, server, [][]string{{"unlock", "a"}}))
	<-p.Done()
	if p.Err() != nil {
		t.Errorf("it ended with %v: %s", p.Err(), said.String())
	}
}
