package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/locksmithd/locksmith/test/etcdtest"
)

// calibration is how often the floor is measured before the rollout, to learn its cost.
const calibration = 100

// floor is two bare clients: one puts, the other waits for that and puts in turn.
type floor struct {
	puts, waits *clientv3.Client
	events      clientv3.WatchChan

	mu   sync.Mutex
	took []time.Duration
}

func newFloor(ctx context.Context, s *etcdtest.Server) (*floor, error) {
	f := &floor{}
	for _, client := range []**clientv3.Client{&f.puts, &f.waits} {
		var err error
		if *client, err = clientv3.New(clientv3.Config{Endpoints: []string{s.Endpoint()}, Logger: zap.NewNop()}); err != nil {
			f.close()
			return nil, fmt.Errorf("make client: %w", err)
		}
	}
	f.events = f.waits.Watch(ctx, "floor/a", clientv3.WithCreatedNotify())
	<-f.events
	return f, nil
}

func (f *floor) close() {
	for _, client := range []*clientv3.Client{f.puts, f.waits} {
		if client != nil {
			_ = client.Close() // its error only reports that its context is cancelled
		}
	}
}

// measure measures the floor once.
func (f *floor) measure(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	done := make(chan error, 1)
	began := time.Now()
	go func() {
		select {
		case <-f.events:
		case <-ctx.Done():
		}
		_, err := f.waits.Put(ctx, "floor/b", "x")
		done <- err
	}()
	_, err := f.puts.Put(ctx, "floor/a", "x")
	if second := <-done; err == nil {
		err = second
	}
	if err != nil {
		return fmt.Errorf("measure the floor: %w", err)
	}
	f.took = append(f.took, time.Since(began))
	return nil
}

// cost returns what the measurements of the calibration add to etcd's counters. They also warm up etcd, and their
// times are dropped.
func (f *floor) cost(ctx context.Context, s *etcdtest.Server) (meter, error) {
	before, err := readMeter(ctx, s)
	if err != nil {
		return nil, err
	}
	for range calibration {
		if err := f.measure(ctx); err != nil {
			return nil, err
		}
	}
	f.took = nil
	after, err := readMeter(ctx, s)
	if err != nil {
		return nil, err
	}
	return after.less(before), nil
}
