// Command demo shows on one machine, without privilege, how the hosts of a fleet take an update and reboot no more
// than so many at once.
//
// The hosts are simulated: each has a message bus with a scripted update_engine and logind, and going down and
// booting is played. etcd, the message buses, locksmithd and locksmithctl are the real programs.
//
// A referee watches the run from outside: the semaphore in etcd, and which hosts are down. The exit status is 0
// only if no more hosts than allowed were ever down, or held a slot, at once, every host took the update, no
// process died, and no slot is held at the end. It is 1 otherwise and after an interrupt, and 2 on wrong usage.
//
// With -update bad the hosts do not become well with the new version: a script in after-reboot.d fails. Then the exit
// status is 0 only if, besides, no more hosts than may be down at once booted that version, and kept their slots; the
// others waited, and locksmithctl status said which host was unwell and why; and all took the version after it, the
// fix.
//
// The demo leaves nothing running however it ends, and no file unless it is killed. It is not a measurement,
// because all hosts share the processors of this machine.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// maxHosts is a fleet that a current machine certainly carries: each host is two processes.
const maxHosts = 200

// options are the options on the command line.
type options struct {
	hosts, max int
	down       time.Duration // how long a reboot takes
	timeout    time.Duration // for the whole run
	bin        string        // folder of the programs
	update     string        // "" or badUpdate
}

// badUpdate is the update whose hosts do not become well.
const badUpdate = "bad"

func (o options) bad() bool { return o.update == badUpdate }

func (o options) program(name string) string { return filepath.Join(o.bin, name) }

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, stdout *os.File, stderr io.Writer) int {
	o, err := parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stderr, usage())
		return 0
	case err != nil:
		fmt.Fprintf(stderr, "demo: %v\n", err)
		return 2
	}
	// With SIGPIPE caught, a write to a reader that has gone fails instead of ending the demo.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	defer stop()
	if err := play(ctx, o, stdout); err != nil {
		fmt.Fprintf(stderr, "demo: %v\n", err)
		return 1
	}
	return 0
}

func flags(o *options) *flag.FlagSet {
	f := flag.NewFlagSet("demo", flag.ContinueOnError)
	f.IntVar(&o.hosts, "hosts", 3, "how many hosts the fleet has")
	f.IntVar(&o.max, "max", 1, "how many of them may be down at once")
	f.DurationVar(&o.down, "down", time.Second, "how long a host is down for its reboot")
	f.DurationVar(&o.timeout, "timeout", 0, "how long the run may take (default depends on the size of the fleet)")
	f.StringVar(&o.update, "update", "", "`bad` for a new version that does not become well, and a fix after it")
	f.StringVar(&o.bin, "bin", "", "`folder` of locksmithd, locksmithctl and etcd (default that of this program)")
	return f
}

func usage() string {
	var text strings.Builder
	text.WriteString("usage: demo [flags]\n")
	f := flags(&options{})
	f.SetOutput(&text)
	f.PrintDefaults()
	return text.String()
}

// parse reads the command line. The error is a sentence that names the problem.
func parse(args []string) (options, error) {
	var o options
	f := flags(&o)
	f.SetOutput(io.Discard)
	f.Usage = func() {}
	if err := f.Parse(args); err != nil {
		return o, err
	}
	switch {
	case f.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q: only flags are taken, and -help shows them", f.Arg(0))
	case o.hosts < 1 || o.hosts > maxHosts:
		return o, fmt.Errorf("-hosts is %d: a fleet has from 1 to %d hosts here", o.hosts, maxHosts)
	case o.max < 1:
		return o, fmt.Errorf("-max is %d: it must be 1 or more, or no host could ever reboot", o.max)
	case o.down < 0:
		return o, fmt.Errorf("-down is %v: it must be 0 or more", o.down)
	case o.timeout < 0:
		return o, fmt.Errorf("-timeout is %v: it must be more than 0", o.timeout)
	}
	if o.update != "" && !o.bad() {
		return o, fmt.Errorf("-update is %q: make demo UPDATE=bad shows a new version that does not become well, and without UPDATE all goes well", o.update)
	}
	if o.timeout == 0 {
		// Far more than a slow machine takes.
		rounds := time.Duration((o.hosts + o.max - 1) / o.max)
		o.timeout = time.Minute + time.Duration(o.hosts)*2*time.Second + rounds*(o.down+5*time.Second)
		if o.bad() {
			o.timeout += o.down + 4*o.healthTimeout() + stands
		}
	}
	if o.bin == "" {
		self, err := os.Executable()
		if err != nil {
			return o, fmt.Errorf("find the programs beside this one: %w; name their folder with -bin", err)
		}
		o.bin = filepath.Dir(self)
	}
	var err error
	if o.bin, err = filepath.Abs(o.bin); err != nil {
		return o, fmt.Errorf("find the folder -bin: %w", err)
	}
	for _, name := range []string{"locksmithd", "locksmithctl", "etcd"} {
		if _, err := os.Stat(o.program(name)); err != nil {
			return o, fmt.Errorf("find %s: %w; run `make demo`, which builds it, or name its folder with -bin", name, err)
		}
	}
	return o, nil
}

// play shows one update of one fleet and prints a summary. The error describes what went wrong.
func play(ctx context.Context, o options, stdout *os.File) error {
	ctx, cancel := context.WithTimeoutCause(ctx, o.timeout, errLate)
	defer cancel()
	d, err := newDirector(o)
	if err != nil {
		return err
	}
	r := newReferee(hostNames(o.hosts), o.max, time.Now())
	if o.bad() {
		r.expectStop(newVersion, fixVersion)
	}
	s, err := newScreen(stdout, os.Getenv)
	if err == nil {
		err = errors.Join(follow(ctx, d, r, s), s.close())
	}
	interrupted := ctx.Err() != nil && !errors.Is(context.Cause(ctx), errLate)
	cancel()
	if err = errors.Join(err, d.close()); interrupted {
		return err
	}
	text := strings.Join(summary(r, time.Now()), "\n") + "\n"
	if err == nil {
		text += "no host was left behind, nothing died and no slot is held: all is well\n"
	}
	_, failed := io.WriteString(stdout, text)
	return errors.Join(err, failed)
}

// errLate is the cause of the end of a run that takes too long.
var errLate = errors.New("too late")

// follow runs the director, and gives its events to the referee and the screen, until all is done.
func follow(ctx context.Context, d *director, r *referee, s screen) error {
	running, stop := context.WithCancel(ctx)
	defer stop()
	d.start(running)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	if err := s.tick(r); err != nil {
		return err
	}
	begun, mending := false, false
	for !r.done() {
		select {
		case e := <-d.events:
			wrong := r.observe(e)
			if err := errors.Join(wrong, s.show(r, e)); err != nil {
				return err
			}
			if !begun && r.all(idle) {
				begun = true
				d.begin(running)
			}
			if !mending && r.stopped() {
				mending = true
				d.mend(running)
			}
		case <-tick.C:
			if err := s.tick(r); err != nil {
				return err
			}
		case <-ctx.Done():
			if cause := context.Cause(ctx); !errors.Is(cause, errLate) {
				return fmt.Errorf("interrupted (%w)", cause)
			}
			return fmt.Errorf("gave up after %v: %w", d.o.timeout, r.verdict())
		}
	}
	if err := s.tick(r); err != nil {
		return err
	}
	stop()
	if err := d.stopAll(ctx); err != nil {
		return err
	}
	for len(d.events) > 0 {
		if err := r.observe(<-d.events); err != nil {
			return err
		}
	}
	last, _, err := d.semaphore(ctx)
	if err != nil {
		return err
	}
	return errors.Join(r.observe(event{Kind: slots, At: time.Now(), Semaphore: last}), r.verdict())
}
