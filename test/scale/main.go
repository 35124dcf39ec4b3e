// Command scale measures the load that a rollout over many hosts puts on etcd, and how fast a slot passes from one
// host to the next.
//
// The hosts are goroutines that do what locksmithd does for one reboot, with the real package lock and a
// connection each. etcd is one real process, a new one for each number of hosts.
//
// All hosts wait in the queue before the first one reboots. A reboot takes a few milliseconds longer than the next
// host needs to be ready for its turn, as it always is in a fleet. The end of each reboot measures the floor once:
// the minimum that the same etcd needs at that moment to report a change by one client to another, and to write
// the other's answer. So each hand-over has its floor, measured just before.
//
// etcd counts the requests, and its history shows the order of the hosts: no clock and no report of a host is
// used. The exit status is 1 if a call failed, more hosts than allowed held a slot at once, a host was overtaken
// or lost its place, or anything was left behind in etcd; it is 2 on wrong usage. A figure that misses its target
// is marked, but does not change the exit status, since the cause may be this machine.
//
// With -look, a server shows the fleet meanwhile, to a browser that has its page open and to Prometheus, and the commands
// for a terminal run all the time. What they ask of etcd is then among the requests.
//
// It does not show the cost of three members, TLS or a real network.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/locksmithd/locksmith/test/etcdtest"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// pace is how long things take that take much longer in a fleet.
type pace struct {
	idle time.Duration // of all hosts, before the first one reboots
	down time.Duration // of a host, once another waits for its turn
}

// options are the options on the command line.
type options struct {
	hosts []int
	max   int
	pace
	look     string // the locksmithctl that shows the fleet meanwhile; "" for none
	markdown bool
}

func run(args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintf(stderr, "scale: %v\n", err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := measureAll(ctx, o, stdout, stderr); err != nil {
		fmt.Fprintf(stderr, "scale: %v\n", err)
		return 1
	}
	return 0
}

func parse(args []string, stderr io.Writer) (o options, err error) {
	f := flag.NewFlagSet("scale", flag.ContinueOnError)
	f.SetOutput(io.Discard) // otherwise every error would include the usage
	hosts := f.String("hosts", "10,100,1000,10000", "how many hosts, a `list` with commas")
	f.IntVar(&o.max, "max", 1, "how many of them may reboot at once")
	f.DurationVar(&o.idle, "idle", 20*time.Second, "how long everybody waits before the first host reboots")
	f.DurationVar(&o.down, "down", 10*time.Millisecond, "how long a host is down for its reboot, once another waits for its turn")
	f.StringVar(&o.look, "look", "", "the `locksmithctl` with which somebody looks at the rollout all the time; its requests count")
	f.BoolVar(&o.markdown, "markdown", false, "print the table in Markdown")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			f.SetOutput(stderr)
			f.PrintDefaults()
		}
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q: only flags are taken", f.Arg(0))
	}
	for word := range strings.SplitSeq(*hosts, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(word))
		if err != nil || n < 1 {
			return o, fmt.Errorf("-hosts has %q; it must be whole numbers from 1 up, with commas between", word)
		}
		o.hosts = append(o.hosts, n)
	}
	if o.max < 1 {
		return o, fmt.Errorf("-max is %d; it must be 1 or more", o.max)
	}
	if o.idle < 0 || o.down < 0 {
		return o, fmt.Errorf("-idle is %v and -down is %v; both must be 0 or more", o.idle, o.down)
	}
	return o, nil
}

// measureAll measures one number of hosts after another, and prints the table.
func measureAll(ctx context.Context, o options, stdout, stderr io.Writer) error {
	binary, err := etcdtest.Binary(etcdtest.Newest)
	if err != nil {
		return err
	}
	var all []figures
	for _, n := range o.hosts {
		fmt.Fprintf(stderr, "%d hosts\n", n)
		f, err := measure(ctx, binary, n, o, stderr)
		if err != nil {
			return fmt.Errorf("measure %d hosts: %w", n, err)
		}
		all = append(all, f)
	}
	if _, err := io.WriteString(stdout, table(all, o.markdown)); err != nil {
		return err
	}
	for _, f := range all {
		if err := f.wrong(); err != nil {
			return fmt.Errorf("%d hosts: %w", f.hosts, err)
		}
	}
	return nil
}
