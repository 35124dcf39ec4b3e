package sentinel

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/locksmithd/locksmith/test/must"
)

// runs runs a command and returns what it says, and what is printed.
func runs(ctx context.Context, text string) (s State, stdout, stderr string) {
	var out, messages strings.Builder
	s = Command{Text: text, Stdout: &out, Stderr: &messages}.Run(ctx)
	return s, out.String(), messages.String()
}

// says checks what a command says: a reason with which it needs a reboot, "no", or an error that begins so.
func (s State) says(t testing.TB, command, want string) {
	t.Helper()
	got := "no"
	switch {
	case s.Err != nil:
		got = "error: " + s.Err.Error()
	case s.Needed:
		got = "yes: " + s.Reason
	}
	prefix, begins := strings.CutSuffix(want, "*")
	if got != want && !(begins && strings.HasPrefix(got, prefix)) {
		t.Errorf("%s says %q, want %q", command, got, want)
	}
	if s.Err != nil && s.Needed {
		t.Errorf("%s says yes and has the error %v", command, s.Err)
	}
}

func TestOnlyZeroAndOneAreAnswers(t *testing.T) {
	folder := t.TempDir()
	must.Do(t, os.WriteFile(folder+"/file", []byte("#!/bin/sh\n"), 0o644))
	must.Do(t, os.WriteFile(folder+"/broken", []byte("\x7fELF"), 0o755))
	for _, test := range []struct{ command, want string }{
		{"true", "yes: "},
		{"echo; echo ' a new kernel '; echo more", "yes: a new kernel"},
		{"echo a new kernel >&2", "yes: a new kernel"},
		{"echo not yet; exit 1", "no"},
		{"false", "no"},
		{"test -f " + folder + "/file && echo it is there", "yes: it is there"},
		{"! true", "no"},
		{"! false", "yes: "},
		{"exit 2", "error: the command gives no answer: exit status 2: it prints nothing"},
		{"echo no network; exit 3", "error: the command gives no answer: exit status 3: no network"},
		{"exit 255", "error: the command gives no answer: exit status 255: *"},
		{"kill -9 $$", "error: the command gives no answer: killed by SIGKILL"},
		{"echo a new kernel; kill -SEGV $$", "error: the command gives no answer: killed by SIGSEGV, after it had printed: a new kernel"},
		{"kill -USR1 $$", "error: the command gives no answer: killed by SIGUSR1"},
		{folder + "/file", "error: the command gives no answer: exit status 126: *"},
		{folder + "/broken", "error: the command gives no answer: exit status 12*"},
		{"no-such-command", "error: the command gives no answer: exit status 127: /bin/sh: 1: no-such-command: not found"},
		{"need-restarting", "error: the command gives no answer: exit status 127: *"},
		{"if", "error: the command gives no answer: exit status 2: *"},
		{`printf '\033[31mred\377\n'`, `yes: \x1b[31mred\xff`},
		{"printf %01000d 0", "yes: " + strings.Repeat("0", maxReason) + "..."},
	} {
		s, _, _ := runs(t.Context(), test.command)
		s.says(t, test.command, test.want)
	}
}

func TestCommandThatPrints100MegabytesIsCutAndCounts(t *testing.T) {
	s, stdout, stderr := runs(t.Context(), "echo a new kernel; head -c 104857600 /dev/zero | tr '\\0' x")
	s.says(t, "the command", "yes: a new kernel")
	if len(stdout) > 1<<20+1 || !strings.Contains(stderr, "the command has printed more than 1024 KiB") {
		t.Errorf("%d bytes are passed on, and it says %q", len(stdout), stderr)
	}
}

func TestProcessThatTheCommandLeavesIsNotWaitedFor(t *testing.T) {
	for status, want := range []string{"yes: *", "no"} {
		s, stdout, stderr := runs(t.Context(), "sleep 1000 & echo $!; exit "+strconv.Itoa(status))
		s.says(t, "the command", want)
		id, err := strconv.Atoi(strings.TrimSpace(stdout))
		must.Do(t, err)
		must.Do(t, syscall.Kill(id, syscall.SIGKILL)) // it still runs
		if status == 0 && !strings.Contains(stderr, "the command has ended, and has left processes") {
			t.Errorf("it says %q", stderr)
		}
	}
}

func TestCommandThatHangsIsStopped(t *testing.T) {
	begun := filepath.Join(t.TempDir(), "begun")
	ctx, stop := context.WithCancelCause(t.Context())
	done := make(chan State)
	go func() {
		s, _, _ := runs(ctx, "echo a new kernel; touch "+begun+"; sleep 1000")
		done <- s
	}()
	must.Eventually(t, patience, "the command", func() bool { _, err := os.Stat(begun); return err == nil })
	stop(errors.New("the time is over"))
	must.Receive(t, patience, "its end", done).says(t, "the command", "error: the command gives no answer: it was stopped: the time is over")
}

// bin makes programs that are found, and no others.
func bin(t *testing.T, programs map[string]string) {
	t.Helper()
	folder := t.TempDir()
	for name, body := range programs {
		if target, link := strings.CutPrefix(body, "-> "); link {
			must.Do(t, os.Symlink(target, filepath.Join(folder, name)))
			continue
		}
		must.Do(t, os.WriteFile(filepath.Join(folder, name), []byte("#!/bin/sh\n"+body+"\n"), 0o755))
	}
	t.Setenv("PATH", folder)
}

const (
	dnfYes = `echo 'Core libraries or services have been updated since boot-up:'; echo '  * glibc'; echo '  * kernel'; echo
echo 'Reboot is required to fully utilize these updates.'; echo 'More information: https://access.redhat.com/solutions/27943'; exit 1`
	dnfNo = `echo 'No core libraries or services have been updated since boot-up.'; echo 'Reboot should not be necessary.'`
	// dnf 4 knows -r, and dnf 5 has no use for it.
	dnf4 = `[ "$*" = "needs-restarting -r" ] || { echo "got $*"; exit 2; }` + "\n"
	dnf5 = `[ "$*" = needs-restarting ] || { echo "got $*"; exit 2; }` + "\n"
)

func TestNeedsRestarting(t *testing.T) {
	for _, test := range []struct {
		programs map[string]string
		want     string
	}{
		{map[string]string{"dnf": dnf4 + dnfYes}, "yes: needs-restarting: glibc, kernel"},
		{map[string]string{"dnf": dnf4 + dnfNo}, "no"},
		{map[string]string{"dnf5": dnf5 + dnfYes}, "yes: needs-restarting: glibc, kernel"},
		{map[string]string{"dnf5": dnf5 + dnfNo}, "no"},
		{map[string]string{"dnf": "-> dnf5", "dnf5": dnf5 + dnfYes}, "yes: needs-restarting: glibc, kernel"},
		{map[string]string{"dnf": "-> dnf-3", "dnf-3": dnf4 + dnfYes, "dnf5": "exit 9"}, "yes: needs-restarting: glibc, kernel"},
		{map[string]string{"needs-restarting": `[ "$*" = -r ] || exit 9; echo 'Reboot is required to ensure that your system benefits from these updates.'; exit 1`},
			"yes: needs-restarting: Reboot is required to ensure that your system benefits from these updates."},
		// It is translated nowhere.
		{map[string]string{"dnf": `[ "$LC_ALL" = C ] || exit 9` + "\n" + dnfNo}, "no"},
		// Failures have exit status 1, too.
		{map[string]string{"dnf": `echo 'No such command: needs-restarting. Please use /usr/bin/dnf --help' >&2; exit 1`},
			"error: needs-restarting: PATH/dnf does not know it: install dnf-plugins-core for dnf 4, dnf5-plugins for dnf 5 or yum-utils for yum"},
		{map[string]string{"dnf5": `echo 'Unknown argument "needs-restarting" for command "dnf5".' >&2; exit 2`},
			"error: needs-restarting: PATH/dnf5 does not know it: install dnf-plugins-core for dnf 4, dnf5-plugins for dnf 5 or yum-utils for yum"},
		{map[string]string{"dnf": `echo 'Error: Failed to download metadata for repo'; exit 1`},
			"error: needs-restarting gives no answer: exit status 1: Error: Failed to download metadata for repo"},
		{map[string]string{"dnf": "kill -9 $$"}, "error: needs-restarting gives no answer: killed by SIGKILL"},
		{nil, "error: needs-restarting: there is neither dnf nor dnf5 nor a program of this name: install dnf-plugins-core for dnf 4, dnf5-plugins for dnf 5 or yum-utils for yum"},
	} {
		bin(t, test.programs)
		s := Command{Text: "needs-restarting", Stdout: io.Discard, Stderr: io.Discard}.Run(t.Context())
		s.says(t, "needs-restarting", strings.ReplaceAll(test.want, "PATH", os.Getenv("PATH")))
	}
}

func TestNeedrestart(t *testing.T) {
	said := func(kernel string) string {
		return `[ "$*" = "-b -k" ] || exit 9; echo NEEDRESTART-VER: 3.6; echo NEEDRESTART-KCUR: 6.1.0-28-amd64; echo NEEDRESTART-KEXP: 6.1.0-30-amd64; ` + kernel
	}
	for program, want := range map[string]string{
		said("echo NEEDRESTART-KSTA: 3"):         "yes: needrestart: the kernel 6.1.0-28-amd64 runs, and 6.1.0-30-amd64 is installed",
		said("echo NEEDRESTART-KSTA: 2"):         "yes: needrestart: the kernel 6.1.0-28-amd64 runs, and 6.1.0-30-amd64 is installed",
		said("echo NEEDRESTART-KSTA: 1"):         "no",
		said("echo NEEDRESTART-KSTA: 0"):         "error: needrestart does not know whether the kernel that runs is the newest",
		said(""):                                 "error: needrestart does not say whether the kernel is the newest, as in a container: it prints NEEDRESTART-VER: 3.6 *",
		said("echo NEEDRESTART-KSTA: 3; exit 1"): "error: needrestart gives no answer: exit status 1: *",
		"-> nowhere":                             "error: needrestart is not installed: install the package needrestart",
	} {
		bin(t, map[string]string{"needrestart": program})
		s := Command{Text: "needrestart", Stdout: io.Discard, Stderr: io.Discard}.Run(t.Context())
		s.says(t, program, want)
	}
}

func TestSysupdate(t *testing.T) {
	for program, want := range map[string]string{
		`[ "$*" = pending ] || exit 9; echo 'Determining installed update sets...' >&2; echo "Newest installed version '8' is newer than booted version '7'. Reboot recommended." >&2`: "yes: sysupdate: Newest installed version '8' is newer than booted version '7'. Reboot recommended.",
		`echo "Newest installed version '7' matches booted version '7'." >&2; exit 1`:                                                                                                  "no",
		`echo "Newest installed version '6' is older than booted version '7'." >&2; exit 1`:                                                                                            "no",
		`echo "/etc/os-release lacks IMAGE_VERSION= field." >&2; exit 1`:                                                                                                               "error: systemd-sysupdate gives no answer: exit status 1: /etc/os-release lacks IMAGE_VERSION= field.",
		"exit 0": "yes: sysupdate: a newer version is installed",
		"exit 2": "error: systemd-sysupdate gives no answer: exit status 2: it prints nothing",
		"":       "error: systemd-sysupdate is not installed: install it with systemd 251 or newer, as in Fedora's package systemd-udev",
	} {
		root := t.TempDir()
		if program != "" {
			path := filepath.Join(root, "usr/lib/systemd/systemd-sysupdate")
			must.Do(t, os.MkdirAll(filepath.Dir(path), 0o755))
			must.Do(t, os.WriteFile(path, []byte("#!/bin/sh\n"+program+"\n"), 0o755))
		}
		s := Command{Text: "sysupdate", Root: root, Stdout: io.Discard, Stderr: io.Discard}.Run(t.Context())
		s.says(t, program, want)
	}
}

// A writer that does not take the output takes nothing from the answer.
func TestOutputThatNobodyTakesDoesNotMatter(t *testing.T) {
	bin(t, map[string]string{"dnf": dnf4 + dnfYes})
	for _, command := range []string{"needs-restarting", "echo needs-restarting: glibc, kernel"} {
		s := Command{Text: command, Stdout: refusing{}, Stderr: refusing{}}.Run(t.Context())
		s.says(t, command, "yes: needs-restarting: glibc, kernel")
	}
}

type refusing struct{}

func (refusing) Write([]byte) (int, error) { return 0, errors.New("refused") }
