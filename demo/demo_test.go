package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/proc"
)

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

func TestDaemonThatRebootsUnaskedFailsTheDemo(t *testing.T) {
	t.Parallel()
	folder := withPrograms(t, "locksmithd", fmt.Sprintf(`%s=1 exec %s/demo "$@"`, asCheat, bin))
	d := start(t, "-bin", folder, "-hosts", "1")
	d.wantFailure(`^demo: host-1 rebooted without an update\n$`)
}
