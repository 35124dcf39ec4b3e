package main

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/test/etcdtest"
)

// result is the outcome of a command that ran in this process.
type result struct {
	args           []string
	code           int
	stdout, stderr string
}

// runOne runs a command.
func runOne(t *testing.T, server *etcdtest.Server, args ...string) result {
	t.Helper()
	return runAll(t, server, [][]string{args})[0]
}

// runAll runs commands at the same time.
func runAll(t *testing.T, server *etcdtest.Server, commands [][]string) []result {
	t.Helper()
	results := make([]result, len(commands))
	begin := make(chan struct{})
	var done sync.WaitGroup
	for i, args := range commands {
		done.Go(func() {
			<-begin
			var stdout, stderr strings.Builder
			code := run(process{
				args:   append([]string{"--root=" + t.TempDir(), "-endpoint", server.Endpoint()}, args...),
				stdout: &stdout,
				stderr: &stderr,
				now:    time.Now,
			})
			results[i] = result{args, code, stdout.String(), stderr.String()}
		})
	}
	close(begin)
	done.Wait()
	return results
}

// mustRun runs a command that must succeed.
func mustRun(t *testing.T, server *etcdtest.Server, args ...string) {
	t.Helper()
	if r := runOne(t, server, args...); r.code != 0 {
		t.Fatalf("%v exits with %d and says %s", args, r.code, r.stderr)
	}
}

// wantSuccess checks that commands succeeded, and wrote nothing to standard error.
func wantSuccess(t *testing.T, results ...result) {
	t.Helper()
	for _, r := range results {
		if r.code != 0 || r.stderr != "" {
			t.Errorf("%v exits with %d and says %s", r.args, r.code, r.stderr)
		}
	}
}
