package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmithd/locksmith/lock"
)

// The keys of the default group: of its document, of its unwell hosts, and the end of these.
const (
	semaphoreKey = lock.Root + "/semaphore"
	unwellPrefix = lock.Root + "/unwell/"
	unwellEnd    = lock.Root + "/unwell0"
)

// watch reports every change of the semaphore and of the unwell hosts in etcd.
func (d *director) watch(ctx context.Context) error {
	client, err := d.etcd.Client()
	if err != nil {
		return err
	}
	var last lock.Semaphore
	for r := range client.Watch(clientv3.WithRequireLeader(ctx), semaphoreKey, clientv3.WithRange(unwellEnd), clientv3.WithRev(1)) {
		if err := r.Err(); err != nil {
			return fmt.Errorf("watch the semaphore: %w", err)
		}
		for _, change := range r.Events {
			if id, ok := strings.CutPrefix(string(change.Kv.Key), unwellPrefix); ok {
				e, err := unwellEvent(d.nameOf(id), change)
				if err != nil {
					return err
				}
				d.report(ctx, e)
			}
			if string(change.Kv.Key) != semaphoreKey {
				continue
			}
			if change.Type != clientv3.EventTypePut {
				return errors.New("the semaphore was deleted")
			}
			now, err := lock.ParseSemaphore(change.Kv.Value)
			if err != nil {
				return fmt.Errorf("the semaphore became %q: %w", change.Kv.Value, err)
			}
			for _, e := range changes(last, now, d.nameOf) {
				d.report(ctx, e)
			}
			last = now
		}
		if n := len(r.Events); n > 0 { // etcd sends all changes of a revision at once
			d.mu.Lock()
			d.reported = r.Events[n-1].Kv.ModRevision
			close(d.changed)
			d.changed = make(chan struct{})
			d.mu.Unlock()
		}
	}
	if ctx.Err() == nil {
		return errors.New("watch the semaphore: etcd ended the watch")
	}
	return nil
}

// awaitReported waits until the changes of the semaphore up to a revision are reported.
func (d *director) awaitReported(ctx context.Context, revision int64) error {
	for {
		d.mu.Lock()
		reported, changed := d.reported, d.changed
		d.mu.Unlock()
		if reported >= revision {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// semaphore reads the current semaphore and its revision from etcd; both are zero as long as nobody has used it.
func (d *director) semaphore(ctx context.Context) (lock.Semaphore, int64, error) {
	client, err := d.etcd.Client()
	if err != nil {
		return lock.Semaphore{}, 0, err
	}
	got, err := client.Get(ctx, semaphoreKey)
	if err != nil {
		return lock.Semaphore{}, 0, fmt.Errorf("read the semaphore: %w", err)
	}
	if len(got.Kvs) == 0 {
		return lock.Semaphore{}, 0, nil
	}
	s, err := lock.ParseSemaphore(got.Kvs[0].Value)
	if err != nil {
		return lock.Semaphore{}, 0, fmt.Errorf("the semaphore is %q: %w", got.Kvs[0].Value, err)
	}
	return s, got.Kvs[0].ModRevision, nil
}

// reportAfter reports an event after all changes of the semaphore so far.
func (d *director) reportAfter(ctx context.Context, e event) error {
	_, revision, err := d.semaphore(ctx)
	if err != nil {
		return err
	}
	if err := d.awaitReported(ctx, revision); err != nil {
		return err
	}
	d.report(ctx, e)
	return nil
}

// unwellEvent returns the event for a change of what a host says in etcd about being unwell.
func unwellEvent(host string, change *clientv3.Event) (event, error) {
	e := event{Kind: unwell, Host: host}
	if change.Type == clientv3.EventTypePut {
		e.Unwell = &lock.UnwellHost{}
		if err := json.Unmarshal(change.Kv.Value, e.Unwell); err != nil {
			return event{}, fmt.Errorf("%s says %q of being unwell: %w", host, change.Kv.Value, err)
		}
	}
	return e, nil
}
