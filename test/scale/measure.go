package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/locksmithd/locksmith/test/etcdtest"
)

// patience is how long etcd may take to come up, and stalled how long nothing may happen in a fleet: far more than
// either takes, even on a busy machine.
const (
	patience = time.Minute
	stalled  = 2 * time.Minute
)

// figures are the results of one rollout.
type figures struct {
	hosts, max int

	// The requests to etcd, in all.
	calls      map[string]float64 // remote procedure calls by name, without keep-alives
	messages   float64            // from clients; a call that watches several keys sends several
	keepAlives float64
	received   float64 // bytes
	sent       float64
	writes     int64 // transactions that changed something

	handovers []time.Duration // from the beginning of Release to the end of the next host's Acquire
	floors    []time.Duration

	filled  time.Duration // until all hosts waited
	rollout time.Duration // from the first release to the last
	waiting memory        // while all hosts waited
	ended   memory
	busy    float64       // the share of one processor that etcd used while all hosts waited
	cpu     time.Duration // of etcd, during the rollout

	glances  glances // nil if nobody looks
	events   int
	resident float64 // the server's memory, peak bytes

	failures int // calls, or attempts of a call, that failed
	verdict
}

// memory is the memory of etcd, in bytes.
type memory struct{ resident, peak, database float64 }

// wrong returns an error with all violations.
func (f *figures) wrong() error {
	var wrong []error
	if f.failures > 0 {
		wrong = append(wrong, fmt.Errorf("%d calls failed", f.failures))
	}
	return errors.Join(append(wrong, f.verdict.wrong(f.hosts, f.max))...)
}

// measure runs one rollout on an etcd of its own. It prints a failure that a host recovers from to progress, and
// counts it.
func measure(ctx context.Context, binary string, hosts int, o options, progress io.Writer) (_ figures, err error) {
	if err := allowFiles(hosts); err != nil {
		return figures{}, err
	}
	dir, err := os.MkdirTemp("", "locksmith-scale-")
	if err != nil {
		return figures{}, err
	}
	defer os.RemoveAll(dir)
	starting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	// The default timing of a member, instead of that for quick tests.
	server, err := etcdtest.Start(starting, etcdtest.Options{Binary: binary, Dir: dir,
		Args: []string{"--heartbeat-interval=100", "--election-timeout=1000"}})
	if err != nil {
		return figures{}, err
	}
	defer server.Close()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	fl, err := newFloor(ctx, server)
	if err != nil {
		return figures{}, err
	}
	defer fl.close()
	own, err := fl.cost(ctx, server)
	if err != nil {
		return figures{}, err
	}

	before, err := readMeter(ctx, server)
	if err != nil {
		return figures{}, err
	}
	var l *looker
	if o.look != "" {
		if l, err = startLooking(ctx, o.look, server.Endpoint(), dir); err != nil {
			return figures{}, err
		}
		defer func() { _ = l.server.Process.Kill() }() // after an error
	}
	f := newFleet(server.Endpoint(), hosts, o.max, o.down, fl, progress)
	began := time.Now()
	ended := make(chan error, 1)
	go func() { ended <- f.roll(ctx) }()
	select {
	case <-f.filled:
	case err := <-ended:
		return figures{}, fmt.Errorf("before all hosts waited: %w", err)
	}
	result := figures{hosts: hosts, max: o.max, filled: time.Since(began)}
	fmt.Fprintf(progress, "all hosts wait after %v\n", result.filled.Round(time.Millisecond))
	filled, err := readMeter(ctx, server)
	if err != nil {
		return figures{}, err
	}
	select {
	case <-time.After(o.idle):
	case <-ctx.Done():
	}
	waiting, err := readMeter(ctx, server)
	if err != nil {
		return figures{}, err
	}
	if o.idle > 0 {
		result.busy = (waiting[processCPU] - filled[processCPU]) / o.idle.Seconds()
	}
	if result.waiting, err = waiting.memory(server); err != nil {
		return figures{}, err
	}
	began = time.Now()
	close(f.start)
	if err := <-ended; err != nil {
		return figures{}, err
	}
	result.rollout = time.Since(began)
	if l != nil {
		if err := l.done(ctx, hosts); err != nil {
			return figures{}, err
		}
		if result.glances, result.events, result.resident, err = l.end(); err != nil {
			return figures{}, err
		}
	}
	after, err := readMeter(ctx, server)
	if err != nil {
		return figures{}, err
	}
	if result.ended, err = after.memory(server); err != nil {
		return figures{}, err
	}
	result.cpu = time.Duration((after[processCPU] - waiting[processCPU]) * float64(time.Second))

	result.floors = fl.took
	spent := after.less(before).less(own.times(float64(len(fl.took)) / calibration))
	result.calls, result.messages, result.keepAlives = spent.requests()
	result.received = spent[received]
	result.sent = spent[sent]
	result.failures = f.failures
	result.handovers = f.handovers()
	result.verdict, result.writes, err = judge(ctx, server)
	return result, err
}
