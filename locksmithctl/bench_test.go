package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/test/etcdtest"
)

// BenchmarkStatus measures "locksmithctl status" against an etcd on the same machine, from start to end of the real
// binary. For comparison it measures the same binary doing nothing, in turn.
func BenchmarkStatus(b *testing.B) {
	binary := filepath.Join(b.TempDir(), "locksmithctl")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("build: %v\n%s", err, out)
	}
	server := etcdtest.MustStart(b, etcdtest.Newest, etcdtest.Options{})
	measure := func(args ...string) time.Duration {
		begin := time.Now()
		if out, err := exec.Command(binary, args...).CombinedOutput(); err != nil {
			b.Fatalf("%v: %v\n%s", args, err, out)
		}
		return time.Since(begin)
	}
	status := []string{"--root=" + b.TempDir(), "-endpoint=" + server.Endpoint(), "status"}
	measure(status...) // creates the document

	var working, idle time.Duration
	for b.Loop() {
		working += measure(status...)
		idle += measure("-version")
	}
	b.ReportMetric(float64(working.Microseconds())/float64(b.N)/1000, "ms/status")
	b.ReportMetric(float64(idle.Microseconds())/float64(b.N)/1000, "ms/version")
	b.ReportMetric(float64(working)/float64(idle), "status/version")
	b.ReportMetric(0, "ns/op")
}
