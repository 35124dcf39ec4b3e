// Package promtest starts Prometheus and what belongs to it: servers and tools of Debian's packages, which make puts in
// bin/.
package promtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/proc"
	"github.com/locksmithd/locksmith/test/realpart"
)

// Patience is how long a test waits for something that takes a second.
const Patience = time.Minute

// Program returns the path of a program in bin/. The test is skipped, or fails, if it is not there.
func Program(t testing.TB, name string) string {
	t.Helper()
	dir, err := os.Getwd()
	must.Do(t, err)
	for !exists(filepath.Join(dir, "go.mod")) && dir != "/" {
		dir = filepath.Dir(dir)
	}
	path := filepath.Join(dir, "bin", name)
	if !exists(path) {
		realpart.Must(t, &realpart.Missing{Part: path, Remedy: "make tools"})
	}
	return path
}

// Start starts a server in a folder with these files, and returns its URL.
func Start(t testing.TB, program string, files map[string]string, args ...string) string {
	t.Helper()
	path := Program(t, program)
	dir := t.TempDir()
	for name, content := range files {
		must.Do(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
	}
	logFile := filepath.Join(dir, "log")
	log, err := os.Create(logFile)
	must.Do(t, err)
	defer log.Close()
	args = append([]string{path, "--web.listen-address=127.0.0.1:0"}, args...)
	if share := path + ".share"; exists(share) { // the package's /usr/share, where the server expects it
		realpart.Must(t, realpart.Root("mounts"), realpart.Tool("unshare", "util-linux"))
		args = append([]string{"unshare", "--mount", "sh", "-ec", `mount --bind "$0" /usr/share; exec "$@"`, share}, args...)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	p, err := proc.Start(cmd)
	must.Do(t, err)
	t.Cleanup(p.Kill)
	listening := regexp.MustCompile(`msg="Listening on" address=(\S+)`)
	var address string
	must.Eventually(t, Patience, program+" to listen", func() bool {
		text, err := os.ReadFile(logFile)
		must.Do(t, err)
		if !p.Running() {
			t.Fatalf("%s has ended:\n%s", program, text)
		}
		if m := listening.FindSubmatch(text); m != nil {
			address = string(m[1])
		}
		return address != ""
	})
	return "http://" + address
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Promtool runs promtool, whose standard input is a text, and returns what it prints; it fails if promtool does.
func Promtool(t testing.TB, stdin string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), Program(t, "promtool"), args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("promtool %s: %v\n%s\nwith\n%s", strings.Join(args, " "), err, out, stdin)
	}
	return string(out)
}

// CheckMetrics fails unless promtool finds nothing wrong in metrics as a server exposes them.
func CheckMetrics(t testing.TB, text string) {
	t.Helper()
	if out := Promtool(t, text, "check", "metrics"); out != "" {
		t.Errorf("promtool says\n%s\nof\n%s", out, text)
	}
}

// Sample is an element of the answer to a query.
type Sample struct {
	Metric map[string]string
	Value  string
}

// Query asks a Prometheus for an instant vector, at a time if that is not zero.
func Query(ctx context.Context, server, query string, at time.Time) ([]Sample, error) {
	values := url.Values{"query": {query}}
	if !at.IsZero() {
		values.Set("time", fmt.Sprint(at.Unix()))
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, server+"/api/v1/query?"+values.Encode(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var answer struct {
		Error string
		Data  struct {
			ResultType string
			Result     []struct {
				Metric map[string]string
				Value  [2]any
			}
		}
	}
	err = json.NewDecoder(resp.Body).Decode(&answer)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", query, err)
	case answer.Error != "":
		return nil, fmt.Errorf("%s: %w", query, errors.New(answer.Error))
	case answer.Data.ResultType != "vector":
		return nil, fmt.Errorf("%s: the answer is a %s", query, answer.Data.ResultType)
	}
	var samples []Sample
	for _, s := range answer.Data.Result {
		samples = append(samples, Sample{s.Metric, fmt.Sprint(s.Value[1])})
	}
	return samples, nil
}

// Scrape returns metrics as a server exposes them.
func Scrape(t testing.TB, address string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	must.Do(t, err)
	resp, err := http.DefaultClient.Do(r)
	must.Do(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if must.Do(t, err); resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s\n%s", address, resp.Status, text)
	}
	return string(text)
}
