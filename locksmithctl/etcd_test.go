package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
)

// What tests do to etcd without locksmithctl.

const (
	// patience limits everything that a test waits for.
	patience = time.Minute

	keys         = "coreos.com/updateengine/rebootlock"
	semaphoreKey = keys + "/semaphore"
)

func clientOf(t testing.TB, server *etcdtest.Server) *clientv3.Client {
	t.Helper()
	client, err := server.Client()
	must.Do(t, err)
	return client
}

// semaphore returns the document of the default group.
func semaphore(t testing.TB, server *etcdtest.Server) lock.Semaphore {
	t.Helper()
	resp, err := clientOf(t, server).Get(t.Context(), semaphoreKey)
	must.Do(t, err)
	s, err := lock.ParseSemaphore(resp.Kvs[0].Value)
	must.Do(t, err)
	return s
}

func putKey(t testing.TB, server *etcdtest.Server, key, value string) {
	t.Helper()
	_, err := clientOf(t, server).Put(t.Context(), key, value)
	must.Do(t, err)
}

// awaitQueue waits until these ids, in any order, and no others are in the default group's queue.
func awaitQueue(client *clientv3.Client, want []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	changes := client.Watch(ctx, keys+"/queue/", clientv3.WithPrefix())
	for {
		resp, err := client.Get(ctx, keys+"/queue/", clientv3.WithPrefix(), clientv3.WithKeysOnly())
		if err != nil {
			return err
		}
		var got []string
		for _, kv := range resp.Kvs {
			got = append(got, strings.TrimPrefix(string(kv.Key), keys+"/queue/"))
		}
		if slices.Equal(got, slices.Sorted(slices.Values(want))) {
			return nil
		}
		select {
		case <-changes:
		case <-ctx.Done():
			return fmt.Errorf("%q wait, want %q", got, want)
		}
	}
}
