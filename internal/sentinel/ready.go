package sentinel

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// readyCommands know the conventions of programs of distributions, whose exit statuses mean something else. Each also
// reads what the program prints, because each program has an exit status for an answer that it uses for failures, too.
var readyCommands = map[string]func(context.Context, Command) State{
	"needs-restarting": needsRestarting, "needrestart": needrestart, "sysupdate": sysupdate,
}

// plain makes programs print what is read here, without translation and colours.
var plain = []string{"LC_ALL=C", "LANGUAGE=", "NO_COLOR=1", "SYSTEMD_COLORS=0", "SYSTEMD_LOG_TARGET=console", "SYSTEMD_LOG_LEVEL=info"}

// needsRestarting asks dnf whether packages that need a reboot were installed since the boot: exit status 1 says so,
// and 0 that there are none. A failure of dnf is a 1 as well, for example without the plugin.
//
// dnf counts before dnf5, because it is what the host uses where both are installed; it may be a link to dnf5, which
// has the question without -r. Distributions without either have a program of the name.
func needsRestarting(ctx context.Context, c Command) State {
	const install = "install dnf-plugins-core for dnf 4, dnf5-plugins for dnf 5 or yum-utils for yum"
	var args []string
	for _, name := range []string{"dnf", "dnf5", "needs-restarting"} {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		switch real, err := filepath.EvalSymlinks(path); {
		case name == "needs-restarting":
			args = []string{path, "-r"}
		case err == nil && filepath.Base(real) == "dnf5":
			args = []string{path, "needs-restarting"}
		default:
			args = []string{path, "needs-restarting", "-r"}
		}
		break
	}
	if args == nil {
		return State{Err: fmt.Errorf("needs-restarting: there is neither dnf nor dnf5 nor a program of this name: %s", install)}
	}
	status, text, err := c.capture(ctx, "needs-restarting", plain, args...)
	switch {
	case err != nil:
		return State{Err: err}
	case status == 0:
		return State{}
	case status == 1 && strings.Contains(text, "Reboot is required"):
		return State{Needed: true, Reason: "needs-restarting: " + packagesOf(text)}
	case strings.Contains(text, "No such command") || strings.Contains(text, "Unknown argument"):
		return State{Err: fmt.Errorf("needs-restarting: %s does not know it: %s", args[0], install)}
	}
	return State{Err: failure("needs-restarting", status, oneLine(text))}
}

// packagesOf returns the packages that dnf lists, or its first line if there is no list.
func packagesOf(text string) string {
	var names []string
	first := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if name, listed := strings.CutPrefix(line, "* "); listed {
			names = append(names, name)
		}
		if strings.HasPrefix(line, "Reboot is required") {
			first = line
		}
	}
	if names == nil {
		return first
	}
	return strings.Join(names, ", ")
}

// needrestart asks needrestart whether the kernel that runs is the newest, see README.batch.md of needrestart: 1 says
// that it is, 2 that another one with a compatible ABI was installed, 3 that another version was, and 0 that it is not
// known. In a container needrestart says nothing of the kernel.
func needrestart(ctx context.Context, c Command) State {
	path, err := exec.LookPath("needrestart")
	if err != nil {
		return State{Err: errors.New("needrestart is not installed: install the package needrestart")}
	}
	// With -k it looks neither at processes nor at containers.
	status, text, err := c.capture(ctx, "needrestart", plain, path, "-b", "-k")
	if err != nil {
		return State{Err: err}
	}
	values := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, found := strings.Cut(line, ":"); found {
			values[name] = strings.TrimSpace(value)
		}
	}
	switch kernel := values["NEEDRESTART-KSTA"]; {
	case status != 0:
		return State{Err: failure("needrestart", status, oneLine(text))}
	case kernel == "1":
		return State{}
	case kernel == "2", kernel == "3":
		return State{Needed: true, Reason: fmt.Sprintf("needrestart: the kernel %s runs, and %s is installed", values["NEEDRESTART-KCUR"], values["NEEDRESTART-KEXP"])}
	case kernel == "0":
		return State{Err: errors.New("needrestart does not know whether the kernel that runs is the newest")}
	}
	return State{Err: fmt.Errorf("needrestart does not say whether the kernel is the newest, as in a container: it prints %s", cmp.Or(oneLine(text), "nothing"))}
}

// sysupdate asks systemd-sysupdate(8) whether a newer version is installed than the one that runs: exit status 0 says
// so, and 1 that there is none, or that it failed.
func sysupdate(ctx context.Context, c Command) State {
	const name = "systemd-sysupdate"
	path, err := exec.LookPath(filepath.Join(c.Root, "/usr/lib/systemd", name)) // it is in no PATH
	if err != nil {
		return State{Err: fmt.Errorf("%s is not installed: install it with systemd 251 or newer, as in Fedora's package systemd-udev", name)}
	}
	status, text, err := c.capture(ctx, name, plain, path, "pending")
	if err != nil {
		return State{Err: err}
	}
	const answer = "Newest installed version"
	line := ""
	for l := range strings.Lines(text) {
		if strings.HasPrefix(l, answer) {
			line = strings.TrimSpace(l)
		}
	}
	switch {
	case status == 0:
		return State{Needed: true, Reason: "sysupdate: " + cmp.Or(line, "a newer version is installed")}
	case status == 1 && line != "":
		return State{}
	}
	return State{Err: failure(name, status, oneLine(text))}
}
