// Command screenshots takes the pictures of the fleet's page that are in the documents.
//
// It writes a simulated fleet into an etcd of its own, has `locksmithctl serve` serve it, and looks at it with
// Chromium: all three are the real programs. The clock of the browser and of the server are those of this machine, so
// the times in the pictures change, and nothing else.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"github.com/locksmithd/locksmith/internal/config"
	"github.com/locksmithd/locksmith/lock/etcd"
	"github.com/locksmithd/locksmith/test/browser"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/fleettest"
)

// maxPicture is the most that a picture may take, in bytes: everybody who clones the project gets each version of it.
const maxPicture = 150_000

// picture is one of the pictures.
type picture struct {
	name          string
	width, height int
	dark          bool
	section       string // at the top; "" for the top of the page
}

var pictures = []picture{
	{"page-light.png", 1100, 760, false, ""},
	{"page-dark.png", 1100, 760, true, ""},
	{"page-rollout.png", 1100, 640, false, "rollout"},
	{"page-phone.png", 390, 760, true, ""},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	bin := flag.String("bin", "bin", "`folder` of locksmithctl")
	out := flag.String("out", filepath.Join("docs", "images"), "`folder` of the pictures")
	flag.Parse()
	if err := run(ctx, *bin, *out); err != nil {
		fmt.Fprintln(os.Stderr, "screenshots:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, bin, out string) (err error) {
	dir, err := os.MkdirTemp("", "screenshots-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	binary, err := etcdtest.Binary(etcdtest.Newest)
	if err != nil {
		return err
	}
	server, err := etcdtest.Start(ctx, etcdtest.Options{Binary: binary, Dir: dir})
	if err != nil {
		return err
	}
	defer server.Close()
	if err := write(ctx, server.Endpoint()); err != nil {
		return err
	}
	url, end, err := serve(ctx, filepath.Join(bin, "locksmithctl"), dir, server.Endpoint())
	if err != nil {
		return err
	}
	defer end()
	return errors.Join(os.MkdirAll(out, 0o755), take(url, out))
}

// write writes the fleet.
func write(ctx context.Context, endpoint string) error {
	store := etcd.New(etcd.Config{Endpoints: endpoint})
	defer store.Close()
	return fleettest.Write(ctx, store, fleettest.Small(), time.Now())
}

// serve starts the server, for the groups of the fleet.
func serve(ctx context.Context, program, root, endpoint string) (url string, end func(), err error) {
	groups := filepath.Join(root, config.GroupsDir)
	if err := os.MkdirAll(groups, 0o755); err != nil {
		return "", nil, err
	}
	for _, g := range fleettest.Small() {
		name := g.Name
		if name == "" {
			name = "default"
		}
		if err := os.WriteFile(filepath.Join(groups, name+".conf"), nil, 0o644); err != nil {
			return "", nil, err
		}
	}
	read, write, err := os.Pipe()
	if err != nil {
		return "", nil, err
	}
	cmd := exec.CommandContext(ctx, program, "serve", "--root="+root, "-endpoint="+endpoint, "-listen=127.0.0.1:0")
	cmd.Env, cmd.Stderr = []string{"TZ=UTC"}, write
	if err := errors.Join(cmd.Start(), write.Close()); err != nil {
		return "", nil, err
	}
	end = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
		_ = read.Close()
	}
	var log []byte
	for buffer := make([]byte, 4096); ; {
		n, err := read.Read(buffer)
		log = append(log, buffer[:n]...)
		if found := regexp.MustCompile(`msg="serves the lock" at=(\S+) `).FindSubmatch(log); found != nil {
			go func() { _, _ = io.Copy(io.Discard, read) }()
			return string(found[1]), end, nil
		}
		if err != nil {
			end()
			return "", nil, fmt.Errorf("%s serve has ended: %s", program, log)
		}
	}
}

// take takes the pictures.
func take(url, out string) (err error) {
	resp, err := http.Get(url)
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	b, err := browser.Start()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	tab, err := b.Tab()
	if err != nil {
		return err
	}
	for _, p := range pictures {
		var text string
		if err := errors.Join(tab.Size(p.width, p.height), tab.Dark(p.dark), tab.Open(url)); err != nil {
			return err
		}
		if err := tab.Eval(`new Promise((done) => { const look = () => document.getElementById("live").textContent == "This page updates itself." ? done("") : setTimeout(look, 50); look(); })`, &text); err != nil {
			return err
		}
		if err := tab.Eval(fmt.Sprintf(`document.getElementById(%q)?.scrollIntoView()`, p.section), nil); err != nil {
			return err
		}
		data, err := tab.Picture()
		if err != nil {
			return err
		}
		if len(data) > maxPicture {
			return fmt.Errorf("%s has %d bytes, more than %d", p.name, len(data), maxPicture)
		}
		if err := os.WriteFile(filepath.Join(out, p.name), data, 0o644); err != nil {
			return err
		}
		fmt.Printf("%s: %d bytes\n", filepath.Join(out, p.name), len(data))
	}
	return nil
}
