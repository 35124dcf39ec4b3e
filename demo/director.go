package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/locksmithd/locksmith/test/bustest"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/proc"
	"github.com/locksmithd/locksmith/test/simhost"
)

// newVersion is the version of the update.
const newVersion = "4081.2.0"

// director runs the real parts, plays the hardware of the hosts, and reports everything as events.
type director struct {
	o      options
	dir    string // for all files
	events chan event
	etcd   *etcdtest.Server
	work   sync.WaitGroup

	reporting sync.Mutex // keeps events in the order of their times

	mu       sync.Mutex
	hosts    []*simulated
	reported int64         // the revision up to which changes of the semaphore are reported
	changed  chan struct{} // closed when reported changes
}

// simulated is one host.
type simulated struct {
	*simhost.Host
	name string
	next atomic.Pointer[string] // the version that update_engine has announced
}

// hostNames returns the names of n hosts.
func hostNames(n int) []string {
	digits := len(fmt.Sprint(n))
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("host-%0*d", digits, i+1))
	}
	return names
}

func machineID(host int) string { return fmt.Sprintf("%032x", host+1) }

// nameOf returns the name of the host with a machine id, or the id if no host has it.
func (d *director) nameOf(id string) string {
	for i, name := range hostNames(d.o.hosts) {
		if machineID(i) == id {
			return name
		}
	}
	return id
}

// newDirector makes a director with a folder, and starts nothing.
func newDirector(o options) (*director, error) {
	dir, err := os.MkdirTemp("", "locksmith-demo-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for the demo: %w", err)
	}
	return &director{o: o, dir: dir, events: make(chan event, 1024), changed: make(chan struct{})}, nil
}

// close ends the remaining processes and removes all files. The context of the other calls has ended.
func (d *director) close() error {
	d.killDaemons()
	d.work.Wait()
	var failed []error
	for _, h := range d.hosts {
		failed = append(failed, h.Close())
	}
	if d.etcd != nil {
		if !d.etcd.Running() {
			failed = append(failed, errors.New("etcd ended by itself"))
		}
		d.etcd.Close()
	}
	return errors.Join(append(failed, os.RemoveAll(d.dir))...)
}

// killDaemons kills every locksmithd, since one may hang.
func (d *director) killDaemons() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, h := range d.hosts {
		if daemon := h.Daemon(); daemon != nil {
			daemon.Kill()
		}
	}
}

// report sends an event, unless ctx has ended.
func (d *director) report(ctx context.Context, e event) {
	d.reporting.Lock()
	defer d.reporting.Unlock()
	e.At = time.Now()
	select {
	case d.events <- e:
	case <-ctx.Done():
	}
}

// do runs f concurrently and reports its error as an event.
func (d *director) do(ctx context.Context, host string, f func() error) {
	d.work.Go(func() {
		if err := f(); err != nil && ctx.Err() == nil {
			d.report(ctx, event{Kind: broke, Host: host, Err: err})
		}
	})
}

// start starts etcd and all hosts, and drives them until ctx ends.
func (d *director) start(ctx context.Context) {
	d.do(ctx, "", func() error {
		dir := filepath.Join(d.dir, "etcd")
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		var err error
		d.etcd, err = etcdtest.Start(ctx, etcdtest.Options{Binary: d.o.program("etcd"), Dir: dir})
		if err != nil {
			return err
		}
		d.report(ctx, event{Kind: etcdRuns, Text: d.etcd.Endpoint()})
		d.do(ctx, "", func() error { return d.watch(ctx) })
		free := make(chan struct{}, 2*runtime.NumCPU()) // a start takes processor time
		for i, name := range hostNames(d.o.hosts) {
			d.do(ctx, name, func() error {
				free <- struct{}{}
				h, err := d.startHost(ctx, i, name)
				<-free
				if err != nil || h == nil {
					return err
				}
				return d.drive(ctx, h)
			})
		}
		return nil
	})
}

// startHost makes and starts a host. If ctx has ended it returns nil instead.
func (d *director) startHost(ctx context.Context, i int, name string) (*simulated, error) {
	if ctx.Err() != nil {
		return nil, nil
	}
	o := simhost.Options{
		Locksmithd: d.o.program("locksmithd"),
		Dir:        filepath.Join(d.dir, name),
		MachineID:  machineID(i),
		UpdateConf: "REBOOT_STRATEGY=etcd-lock\nLOCKSMITHD_ENDPOINT=" + d.etcd.Endpoint() + "\n",
	}
	if d.o.bad() {
		o.Locksmithctl = d.o.program("locksmithctl")
		o.UpdateConf += "LOCKSMITHD_HEALTH_TIMEOUT=" + d.o.healthTimeout().String() + "\n"
	}
	sim, err := simhost.New(o)
	if err != nil {
		return nil, err
	}
	h := &simulated{Host: sim, name: name}
	d.mu.Lock()
	d.hosts = append(d.hosts, h)
	d.mu.Unlock()
	if d.o.bad() {
		if err := h.prepareBad(); err != nil {
			return nil, err
		}
	}
	d.report(ctx, event{Kind: started, Host: name})
	return h, h.Start()
}

// drive reports the status of a host's locksmithd, and reboots the host when logind is asked to, until ctx or the
// locksmithd ends.
func (d *director) drive(ctx context.Context, h *simulated) error {
	last := ""
	for {
		changed := h.Changed()
		if now := h.Status(); now != last {
			last = now
			d.report(ctx, event{Kind: status, Host: h.name, Text: now})
		}
		select {
		case <-changed:
		case <-h.Logind.Reboots():
			if err := d.reboot(ctx, h); err != nil {
				return err
			}
		case <-h.Daemon().Done():
			return withLog(fmt.Errorf("locksmithd ended by itself: %s", ending(h.Daemon())), h)
		case <-ctx.Done():
			return nil
		}
	}
}

// reboot takes a host down and lets it boot.
func (d *director) reboot(ctx context.Context, h *simulated) error {
	if err := d.reportAfter(ctx, event{Kind: down, Host: h.name}); err != nil {
		return err
	}
	if err := h.Halt(); err != nil {
		return withLog(err, h)
	}
	select {
	case <-time.After(d.o.down):
	case <-ctx.Done():
		return nil
	}
	e := event{Kind: up, Host: h.name}
	if next := h.next.Load(); next != nil { // none, if it rebooted unasked
		e.Text = *next
	}
	if err := d.reportAfter(ctx, e); err != nil {
		return err
	}
	if d.o.bad() {
		if err := h.SetOSVersion(e.Text); err != nil {
			return err
		}
	}
	return h.Boot()
}

// begin sets the number of slots with locksmithctl, as an administrator would on one of the hosts, and makes every
// update_engine announce an update.
func (d *director) begin(ctx context.Context) {
	d.do(ctx, "", func() error {
		text, out, err := d.ctl(ctx, "set-max", fmt.Sprint(d.o.max))
		if err != nil {
			return err
		}
		d.report(ctx, event{Kind: maxSet, Text: text + " prints " + strings.Join(strings.Split(strings.TrimSpace(out), "\n"), ", ")})
		return d.announce(ctx, newVersion)
	})
}

// announce makes every update_engine announce an update.
func (d *director) announce(ctx context.Context, version string) error {
	if err := d.reportAfter(ctx, event{Kind: announced, Text: version}); err != nil {
		return err
	}
	for _, h := range d.hosts {
		h.next.Store(&version)
		err := h.Engine.Announce(bustest.Status{Operation: bustest.OperationNeedReboot, NewVersion: version, NewSize: 400 << 20})
		if err != nil {
			return fmt.Errorf("announce the update on %s: %w", h.name, err)
		}
	}
	return nil
}

// ctl runs locksmithctl on a host, and returns the command and its output.
func (d *director) ctl(ctx context.Context, args ...string) (text, out string, err error) {
	cmd := exec.Command(d.o.program("locksmithctl"), append([]string{"--root=" + d.hosts[0].Path("")}, args...)...)
	cmd.Env = []string{} // no settings from this environment
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	text = "locksmithctl " + strings.Join(args, " ")
	ctl, err := proc.Start(cmd)
	if err != nil {
		return "", "", fmt.Errorf("start %s: %w", text, err)
	}
	defer context.AfterFunc(ctx, ctl.Kill)()
	if err := ctl.Err(); err != nil {
		return "", "", fmt.Errorf("%s: %w: %s", text, err, strings.TrimSpace(stderr.String()))
	}
	return text, stdout.String(), nil
}

// stopAll stops every locksmithd as systemd does. The context of start has ended.
func (d *director) stopAll(ctx context.Context) error {
	defer context.AfterFunc(ctx, d.killDaemons)()
	d.work.Wait()
	for _, h := range d.hosts {
		if err := h.Stop(); err != nil {
			return fmt.Errorf("%s: %w", h.name, withLog(err, h))
		}
	}
	return nil
}

// ending describes how a process ended.
func ending(p *proc.Process) string {
	if err := p.Err(); err != nil {
		return err.Error()
	}
	return "exit status 0"
}

// withLog adds the last lines of a host's log to an error.
func withLog(err error, h *simulated) error {
	lines := strings.SplitAfter(strings.TrimSuffix(h.Log(), "\n"), "\n")
	return fmt.Errorf("%w; the end of its log:\n%s", err, strings.Join(lines[max(0, len(lines)-20):], ""))
}
