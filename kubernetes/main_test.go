package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/locksmithd/locksmith/test/must"
)

// result is what a command does.
type result struct {
	code           int
	stdout, stderr string
}

// execute runs a command with variables, KEY=VALUE without their prefix.
func execute(variables []string, args ...string) (r result) {
	var stdout, stderr bytes.Buffer
	r.code = run(args, environment(variables), &stdout, &stderr)
	r.stdout, r.stderr = stdout.String(), stderr.String()
	return r
}

// environment returns variables with their prefix.
func environment(variables []string) (environ []string) {
	for _, v := range variables {
		environ = append(environ, "LOCKSMITH_KUBERNETES_"+v)
	}
	return environ
}

// A wrong setting is named, whichever command it is for, and the API server is not asked.
func TestWrongSettingsAreNamed(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("the API server was asked for %s", r.URL)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	t.Cleanup(server.Close)
	kubeconfig := "KUBECONFIG=" + writeKubeconfig(t, server.URL)
	for variable, want := range map[string]string{
		"SKIP_NAMESPACE=kube-system":         `LOCKSMITH_KUBERNETES_SKIP_NAMESPACE is not a setting: /usr/share/doc/locksmith-kubernetes/examples/kubernetes.conf has all of them`,
		"CANCELLED=true":                     `LOCKSMITH_KUBERNETES_CANCELLED is not a setting`,
		"TIMEOUT=0":                          `LOCKSMITH_KUBERNETES_TIMEOUT="0": write a length of time from 1s to 24h, such as 90s or 10m`,
		"TIMEOUT=10":                         `LOCKSMITH_KUBERNETES_TIMEOUT="10": write a length of time from 1s to 24h`,
		"FORCE=perhaps":                      `LOCKSMITH_KUBERNETES_FORCE="perhaps": write true or false`,
		"GRACE_PERIOD=-2":                    `LOCKSMITH_KUBERNETES_GRACE_PERIOD="-2": write a whole number of seconds, or -1 for what the pod says`,
		"POD_SELECTOR=a in (":                `LOCKSMITH_KUBERNETES_POD_SELECTOR="a in (": unable to parse requirement`,
		"BLOCKING_POD_SELECTOR=a=b;":         `LOCKSMITH_KUBERNETES_BLOCKING_POD_SELECTOR="a=b;": an empty selector would match every pod`,
		"BLOCKING_POD_SELECTOR=a=b=c":        `LOCKSMITH_KUBERNETES_BLOCKING_POD_SELECTOR="a=b=c": found '='`,
		"MIN_READY=-1":                       `LOCKSMITH_KUBERNETES_MIN_READY="-1": write a whole number of nodes`,
		"SKIP_NAMESPACES=kube-system,A":      `LOCKSMITH_KUBERNETES_SKIP_NAMESPACES="kube-system,A": "A": a lowercase RFC 1123 label`,
		"FORCE_AFTER=10m":                    `--force-after 10m0s never comes: --timeout is 10m0s`,
		"EXCLUDE_FROM_LOAD_BALANCERS=30":     `LOCKSMITH_KUBERNETES_EXCLUDE_FROM_LOAD_BALANCERS="30": write a length of time`,
		"EXCLUDE_FROM_LOAD_BALANCERS=1h":     `--exclude-from-load-balancers=1h0m0s leaves no time for the drain: --timeout is 10m0s`,
		"AFTER_REBOOT_ANNOTATIONS=a/b":       `--before-reboot-annotations and --after-reboot-annotations need --fluo`,
		"BEFORE_REBOOT_ANNOTATIONS=a/b/c":    `LOCKSMITH_KUBERNETES_BEFORE_REBOOT_ANNOTATIONS="a/b/c": "a/b/c": `,
		"PRE_REBOOT_NODE_LABELS=a/b=c":       `--pre-reboot-node-labels and --post-reboot-node-labels have to set the same labels`,
		"POST_REBOOT_NODE_LABELS=a/b":        `LOCKSMITH_KUBERNETES_POST_REBOOT_NODE_LABELS="a/b": "a/b": write KEY=VALUE`,
		"WAIT_DAEMONSETS=forever":            `LOCKSMITH_KUBERNETES_WAIT_DAEMONSETS="forever": write a length of time from 0s to 24h`,
		"KUBECONFIG=/nonexistent/kubeconfig": `kubeconfig /nonexistent/kubeconfig: no such file or directory`,
	} {
		for _, command := range []string{"drain", "uncordon", "may-reboot"} {
			variables := []string{kubeconfig, "NODE=web-1", variable}
			if strings.HasPrefix(variable, "KUBECONFIG=") {
				variables = variables[1:]
			}
			got := execute(variables, command)
			if got.code != 1 || !strings.HasPrefix(got.stderr, want) || strings.Count(got.stderr, "\n") != 1 || got.stdout != "" {
				t.Errorf("%s with %s: %+v, want %s", command, variable, got, want)
			}
		}
	}
}

func writeKubeconfig(t *testing.T, server string) string {
	path := filepath.Join(t.TempDir(), "kubeconfig")
	must.Do(t, os.WriteFile(path, []byte(`apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: c}}]
clusters: [{name: c, cluster: {server: "`+server+`"}}]
`), 0o600))
	return path
}

func TestSettingsComeFromFlagsAndVariables(t *testing.T) {
	for name, test := range map[string]struct {
		variables, args []string
		want            func(s *settings) bool
	}{
		"defaults": {nil, nil, func(s *settings) bool {
			return s.Timeout.String() == "10m0s" && s.GracePeriod == -1 && !s.Force && s.MinReady == 0
		}},
		"variable": {[]string{"TIMEOUT=3m", "FORCE=true"}, nil, func(s *settings) bool { return s.Timeout.String() == "3m0s" && s.Force }},
		"flag wins": {[]string{"TIMEOUT=3m", "SKIP_NAMESPACES=a"}, []string{"--timeout=4m", "--skip-namespaces=b,c"}, func(s *settings) bool {
			return s.Timeout.String() == "4m0s" && slices.Equal(s.SkipNamespaces, []string{"b", "c"})
		}},
		"other command":                      {[]string{"BLOCKING_POD_SELECTOR=a=b;c in (d,e)"}, nil, func(s *settings) bool { return len(s.BlockingPods) == 2 && s.BlockingPods[1].String() == "c in (d,e)" }},
		"load balancers":                     {nil, []string{"--exclude-from-load-balancers"}, func(s *settings) bool { return s.ExcludeFromLoadBalancers && s.LoadBalancerWait == 0 }},
		"load balancers that are waited for": {nil, []string{"--exclude-from-load-balancers=30s"}, func(s *settings) bool { return s.ExcludeFromLoadBalancers && s.LoadBalancerWait.String() == "30s" }},
		"no load balancers":                  {[]string{"EXCLUDE_FROM_LOAD_BALANCERS=false"}, nil, func(s *settings) bool { return !s.ExcludeFromLoadBalancers }},
		"labels":                             {[]string{"PRE_REBOOT_NODE_LABELS=a/b=c,d=", "POST_REBOOT_NODE_LABELS=a/b=,d=e"}, nil, func(s *settings) bool { return s.PreRebootLabels["a/b"] == "c" && s.PostRebootLabels["d"] == "e" }},
	} {
		t.Run(name, func(t *testing.T) {
			a := &app{environ: environment(test.variables)}
			root := a.rootCommand()
			drain, _, err := root.Find([]string{"drain"})
			must.Do(t, err)
			drain.RunE = func(*cobra.Command, []string) error { return nil }
			root.SetArgs(append([]string{"drain"}, test.args...))
			must.Do(t, root.Execute())
			if !test.want(&a.settings) {
				t.Errorf("the settings are %+v", a.settings)
			}
		})
	}
}

// --force-after is counted from the cordon.
func TestForceThatNeverComesIsRefused(t *testing.T) {
	for forceAfter, want := range map[string]string{
		"9m29s": "kubeconfig /nonexistent/kubeconfig: ",
		"9m30s": "--force-after 9m30s never comes: it is counted from the cordon, after --exclude-from-load-balancers=30s, and --timeout is 10m0s",
	} {
		got := execute([]string{"FORCE_AFTER=" + forceAfter, "EXCLUDE_FROM_LOAD_BALANCERS=30s", "KUBECONFIG=/nonexistent/kubeconfig"}, "may-reboot")
		if got.code != 1 || !strings.HasPrefix(got.stderr, want) {
			t.Errorf("%s: %+v, want %s", forceAfter, got, want)
		}
	}
}

// Without the id of this boot, a node that is still as it was before the reboot would count as back.
func TestBootIDThatCannotBeReadIsAnError(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "boot_id")
	var s settings
	if err := s.readBootID(missing); err == nil || !strings.HasPrefix(err.Error(), "read the id of this boot: open "+missing) {
		t.Errorf("the error is %v", err)
	}
}

func TestUsage(t *testing.T) {
	for _, test := range []struct {
		args   []string
		code   int
		stdout string
		stderr string
	}{
		{nil, 0, "uncordon    Take the node back after a reboot", ""},
		{[]string{"--version"}, 0, "version dev", ""},
		{[]string{"drain", "--help"}, 0, "--delete-emptydir-data", ""},
		{[]string{"dran"}, 2, "", `takes no argument "dran": see --help`},
		{[]string{"drain", "web-1"}, 2, "", `takes no argument "web-1": see --help`},
		{[]string{"drain", "--nonsense"}, 2, "", "unknown flag: --nonsense"},
		{[]string{"drain", "--timeout=1"}, 2, "", "write a length of time from 1s to 24h"},
	} {
		got := execute(nil, test.args...)
		if got.code != test.code || !strings.Contains(got.stdout, test.stdout) || !strings.Contains(got.stderr, test.stderr) {
			t.Errorf("%q: %+v, want %+v", test.args, got, test)
		}
		if test.code != 0 && (got.stdout != "" || strings.Count(got.stderr, "\n") != 1) {
			t.Errorf("%q: %+v, want one line on standard error", test.args, got)
		}
	}
}

// The first line of output is the reason, which the status of locksmithd shows.
func TestMayRebootSaysWhyNot(t *testing.T) {
	paused := "false"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"apiVersion":"v1","kind":"Node","metadata":{"name":"web-1","annotations":{
			"flatcar-linux-update.v1.flatcar-linux.net/reboot-paused":"` + paused + `"}}}`))
	}))
	t.Cleanup(server.Close)
	args := []string{"may-reboot", "--kubeconfig", writeKubeconfig(t, server.URL), "--node=web-1"}
	if got := execute(nil, args...); got != (result{}) {
		t.Errorf("%+v, want yes", got)
	}
	paused = "true"
	want := result{1, "", "node web-1 has the annotation flatcar-linux-update.v1.flatcar-linux.net/reboot-paused=true\n"}
	if got := execute(nil, args...); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// What an API server, a kubeconfig or a variable says cannot forge a line of the journal.
func TestOutputIsOneLineWhateverIsInIt(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"apiVersion":"v1","kind":"PodList","items":[{"metadata":{"name":"a\nb\u001b[2J","namespace":"c"},"spec":{"nodeName":"web-1"}}]}`))
	}))
	t.Cleanup(server.Close)
	got := execute(nil, "drain", "--kubeconfig", writeKubeconfig(t, server.URL), "--node=web-1")
	if want := `node web-1 cannot be drained: c/a\nb\x1b[2J has no controller`; got.code != 1 || !strings.HasPrefix(got.stderr, want) {
		t.Errorf("%+v, want %s", got, want)
	}
	got = execute([]string{"NODE=web-1\nweb-2"}, "may-reboot", "--kubeconfig", writeKubeconfig(t, server.URL))
	if want := `read node web-1\nweb-2: `; got.code != 1 || !strings.HasPrefix(got.stderr, want) || strings.Count(got.stderr, "\n") != 1 {
		t.Errorf("%+v, want %s", got, want)
	}
	var stdout bytes.Buffer
	(&app{stdout: &stdout}).status("waiting for c/a\nb")
	if want := `waiting for c/a\nb` + "\n"; stdout.String() != want {
		t.Errorf("printed is %q, want %q", &stdout, want)
	}
}

func TestDocumentNamesEveryFlag(t *testing.T) {
	page, err := os.ReadFile("../docs/kubernetes.md")
	must.Do(t, err)
	root := (&app{}).rootCommand()
	documented := func(command string) func(*pflag.Flag) {
		return func(flag *pflag.Flag) {
			if row := "| `--" + flag.Name + "` | " + command + " |"; !strings.Contains(string(page), row) {
				t.Errorf("docs/kubernetes.md has no row %q", row)
			}
		}
	}
	root.PersistentFlags().VisitAll(documented("all"))
	for _, command := range root.Commands() {
		command.LocalNonPersistentFlags().VisitAll(documented(command.Name()))
	}
}
