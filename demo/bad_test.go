package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/test/must"
)

func TestBadUpdateStopsAndTheFixGoesOn(t *testing.T) {
	for _, c := range []struct{ hosts, max int }{{5, 2}, {2, 5}} { // 3 hosts, max 1: TestBadDemoPrintsWhatTheDocumentsShow
		t.Run(fmt.Sprintf("%d hosts, max %d", c.hosts, c.max), func(t *testing.T) {
			t.Parallel()
			d := start(t, "-update", "bad", "-hosts", fmt.Sprint(c.hosts), "-max", fmt.Sprint(c.max), "-down", "200ms")
			status, out := d.end()
			if status != 0 || d.stderr.Len() > 0 {
				t.Fatalf("exit status %d\n%s\n%s", status, out, d.stderr.String())
			}
			d.wantNothingLeft()
			// Check by the lines alone, without the referee.
			before, after, stopped := strings.Cut(out, "the rollout has stopped; locksmithctl status -o wide prints\n")
			status1, after, mended := strings.Cut(after, fmt.Sprintf("update_engine of all %d hosts announces version 4081.2.1", c.hosts))
			if !stopped || !mended {
				t.Fatalf("it did not stop and go on:\n%s", out)
			}
			bad := count(before, ` boots version 4081\.2\.0 `)
			if sick := count(before, ` is unwell with version 4081\.2\.0: .*10-smoke: the service answers 503`); bad < 1 || bad > c.max || sick != bad {
				t.Errorf("%d hosts booted the bad version and %d are unwell, want at most %d, and the same", bad, sick, c.max)
			}
			if n := count(before, ` waits: paused for version 4081\.2\.0`); n != c.hosts-bad {
				t.Errorf("%d hosts say that the version is paused, want %d", n, c.hosts-bad)
			}
			if n := count(status1, `host-\d +4081\.2\.0 .* its version +.*10-smoke: the service answers 503`); n != bad {
				t.Errorf("locksmithctl shows %d unwell hosts, want %d:\n%s", n, bad, status1)
			}
			if n := count(status1, `host-\d  `); n != 2*bad {
				t.Errorf("something happened while the rollout stood:\n%s", status1)
			}
			if n := count(after, ` goes down .*, with the slot that it has`); n != bad {
				t.Errorf("%d hosts took the fix on the slot that they had, want %d", n, bad)
			}
			if n := count(after, ` boots version 4081\.2\.1 `); n != c.hosts || count(out, ` boots `) != c.hosts+bad {
				t.Errorf("%d hosts booted the fix, want %d", n, c.hosts)
			}
			for _, want := range []string{
				fmt.Sprintf("version 4081.2.1: runs on %d of %[1]d hosts\n", c.hosts),
				"nothing died and no slot is held: all is well",
			} {
				if !strings.Contains(out, want) {
					t.Errorf("%q is not in the output", want)
				}
			}
			if t.Failed() {
				t.Log(out)
			}
		})
	}
}

// count counts the lines in which a pattern matches.
func count(text, pattern string) int {
	return len(regexp.MustCompile(`(?m)^.*`+pattern+`.*$`).FindAllString(text, -1))
}

// withPrograms returns a folder of the programs in which a shell script is in the place of one of them. It may use
// $REAL, the program itself.
func withPrograms(t *testing.T, name, script string) string {
	t.Helper()
	folder, err := os.MkdirTemp(bin, "changed-")
	must.Do(t, err)
	must.Do(t, os.Chmod(folder, 0o755)) // for nobody
	for _, other := range []string{"etcd", "locksmithctl", "locksmithd"} {
		if other != name {
			must.Do(t, os.Symlink(filepath.Join(bin, other), filepath.Join(folder, other)))
		}
	}
	script = fmt.Sprintf("#!/bin/sh\nREAL=%s\n%s\n", filepath.Join(bin, name), script)
	must.Do(t, os.WriteFile(filepath.Join(folder, name), []byte(script), 0o755))
	return folder
}

func TestBadUpdateThatDoesNotStopAndGoOnFailsTheDemo(t *testing.T) {
	for name, c := range map[string]struct{ program, script, timeout, want string }{
		"unwell hosts give their slots back": {
			"locksmithd", `LOCKSMITHD_HEALTH_FAILURE=release exec $REAL "$@"`, "1m",
			`^demo: host-\d gave its slot back, and is not well with version 4081\.2\.0\n$`,
		},
		"the checks do not run": {
			"locksmithctl", `case "$*" in *scripts*) exit 0;; esac; exec $REAL "$@"`, "1m",
			`^demo: host-\d gave its slot back, and is not well with version 4081\.2\.0\n$`,
		},
		"unwell hosts do not pause their version": {
			"locksmithd", `LOCKSMITHD_HEALTH_FAILURE=hold exec $REAL "$@"`, "12s",
			`^demo: gave up after 12s: 3 of 3 hosts were left behind: .*; the rollout of version 4081\.2\.0 has not stopped: booted by \d of the hosts; `,
		},
		"no host is well with the fix either": {
			"locksmithctl", `case "$*" in *scripts*) $REAL "$@"; exit 1;; esac; exec $REAL "$@"`, "1m",
			`^demo: host-\d is unwell with version 4081\.2\.1: `,
		},
		"an administrator is not told why": {
			"locksmithctl", `case "$*" in *status*) echo "Paused: no"; exit;; esac; exec $REAL "$@"`, "1m",
			`^demo: locksmithctl does not show that host-\d is unwell with version 4081\.2\.0, `,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := start(t, "-update", "bad", "-down", "100ms", "-timeout", c.timeout, "-bin", withPrograms(t, c.program, c.script))
			d.wantFailure(c.want)
		})
	}
}

func TestUnwellHostWhoseSlotIsTakenAwayFailsTheDemo(t *testing.T) {
	t.Parallel()
	d := start(t, "-update", "bad", "-hosts", "1", "-down", "100ms")
	endpoint := d.await(`etcd runs at (.*)`)[1]
	d.await("is unwell")
	ctl(t, endpoint, "unlock", machineID(0))
	d.wantFailure(`^demo: host-1 gave its slot back, and is not well with version 4081\.2\.0\n$`)
}
