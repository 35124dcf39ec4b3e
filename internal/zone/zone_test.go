package zone

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/test/must"
)

var winter = time.Date(2026, time.January, 15, 12, 0, 0, 0, time.UTC)

// host is a root with a zone, and the warnings about it.
type host struct {
	*Zone
	t        *testing.T
	path     string
	warnings []string
}

// newHost returns a host whose zone file is that of a name, or missing if the name is "".
func newHost(t *testing.T, name string) *host {
	root := t.TempDir()
	h := &host{t: t, path: filepath.Join(root, "etc/localtime")}
	must.Do(t, os.MkdirAll(filepath.Dir(h.path), 0o755))
	if name != "" {
		h.link(name)
	}
	var err error
	if h.Zone, err = Host(root, func(w string) {
		h.Location() // as logging does for the time
		h.warnings = append(h.warnings, w)
	}); err != nil {
		t.Fatal(err)
	}
	return h
}

// link sets the host's zone by replacing the link, as timedatectl does.
func (h *host) link(name string) {
	h.t.Helper()
	if err := os.Symlink(filepath.Join(database, name), h.path+".new"); err != nil {
		h.t.Fatal(err)
	}
	if err := os.Rename(h.path+".new", h.path); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) write(data []byte) {
	h.t.Helper()
	if err := os.RemoveAll(h.path); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(h.path, data, 0o644); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) remove() {
	h.t.Helper()
	if err := os.Remove(h.path); err != nil {
		h.t.Fatal(err)
	}
}

// want checks the zone's name in winter, and how many warnings there were.
func (h *host) want(abbreviation string, warnings int) {
	h.t.Helper()
	for range 3 { // asking again changes nothing
		if got, _ := winter.In(h.Location()).Zone(); got != abbreviation || len(h.warnings) != warnings {
			h.t.Fatalf("the zone is %s, want %s; the warnings are %q, want %d", got, abbreviation, h.warnings, warnings)
		}
	}
}

func data(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(database, name))
	if err != nil {
		t.Fatalf("install tzdata: %v", err)
	}
	return data
}

func TestHostFollowsItsFile(t *testing.T) {
	h := newHost(t, "Europe/Berlin")
	h.want("CET", 0)
	h.link("Asia/Tokyo")
	h.want("JST", 0)
	h.write(data(t, "America/New_York"))
	h.want("EST", 0)
}

func TestHostWithoutAFileIsUTCUntilThereIsOne(t *testing.T) {
	h := newHost(t, "")
	h.want("UTC", 0)
	h.link("Asia/Tokyo")
	h.want("JST", 0)
}

func TestBrokenOrMissingFileKeepsTheLastZone(t *testing.T) {
	h := newHost(t, "Europe/Berlin")
	h.remove()
	h.want("CET", 1)
	h.write([]byte("TZif, but not for long"))
	h.want("CET", 2)
	h.write(data(t, "Asia/Tokyo")[:100])
	h.want("CET", 3)
	h.link("No/Such/Place")
	h.want("CET", 4)
	h.write(make([]byte, maxSize+1))
	h.want("CET", 5)
	h.remove()
	must.Do(t, os.Mkdir(h.path, 0o755))
	h.want("CET", 6)
	for _, w := range h.warnings {
		if !strings.Contains(w, h.path) || strings.Contains(w, "\n") {
			t.Errorf("the warning is %q", w)
		}
	}
}

func TestBrokenFileAtTheStartIsUTCAndAnError(t *testing.T) {
	root := t.TempDir()
	path := filepath.Join(root, "etc/localtime")
	must.Do(t, os.MkdirAll(path, 0o755))
	z, err := Host(root, nil)
	if err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("the error is %v", err)
	}
	if z.Location() != time.UTC {
		t.Errorf("the zone is %v", z.Location())
	}
}

// Env returns the zone that Go itself would use with the variable.
func TestEnv(t *testing.T) {
	h := newHost(t, "Asia/Tokyo")
	root := strings.TrimSuffix(h.path, "/etc/localtime")
	for tz, want := range map[string]string{
		"":                          "UTC",
		":":                         "UTC",
		"UTC":                       "UTC",
		"Europe/Berlin":             "CET",
		":America/New_York":         "EST",
		database + "/Europe/Berlin": "CET",
		"/etc/localtime":            "JST", // of the root
		"CET-1CEST,M3.5.0,M10.5.0":  "",
		"Nowhere":                   "",
		"Local":                     "",
		"../../../etc/passwd":       "",
	} {
		z, err := Env(tz, root, nil)
		if (err == nil) != (want != "") {
			t.Errorf("TZ=%s: error %v", tz, err)
		}
		if want == "" {
			want = "UTC"
		}
		if got, _ := winter.In(z.Location()).Zone(); got != want {
			t.Errorf("TZ=%s is %s, want %s", tz, got, want)
		}
	}
}

// Goroutines may ask while the file changes, also between the check of its version and reading it.
func TestZoneIsSafeForConcurrentUse(t *testing.T) {
	h := newHost(t, "Europe/Berlin")
	var asking sync.WaitGroup
	defer asking.Wait()
	changed := make(chan struct{})
	defer close(changed)
	for range 4 {
		asking.Go(func() {
			for {
				select {
				case <-changed:
					return
				default:
					h.Location()
				}
			}
		})
	}
	for range 200 {
		for range 10 {
			h.link("Asia/Tokyo")
			h.link("Europe/Berlin")
		}
		h.want("CET", 0)
	}
}

func TestRelativeRoot(t *testing.T) {
	h := newHost(t, "Asia/Tokyo")
	t.Chdir(strings.TrimSuffix(h.path, "/etc/localtime"))
	z, err := Host(".", nil)
	if got, _ := winter.In(z.Location()).Zone(); err != nil || got != "JST" {
		t.Errorf("the zone is %s, %v", got, err)
	}
}
