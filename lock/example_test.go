package lock_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/storetest"
)

// A host takes its group's slot, and another one finds it taken.
func Example() {
	// On a host: etcd.New(etcd.Config{Endpoints: "http://127.0.0.1:2379"})
	store := storetest.NewMemory()
	ctx := context.Background()

	web1, err := lock.New(store, "web", 1)
	if err != nil {
		log.Fatal(err)
	}
	if err := web1.Acquire(ctx, "69d27b356a94476da859461d3a3bc6fd", lock.Record{Hostname: "web1", By: "example"}, nil); err != nil {
		log.Fatal(err)
	}

	web2, err := lock.New(store, "web", 1)
	if err != nil {
		log.Fatal(err)
	}
	_, err = web2.TryAcquire(ctx, "5a0f3cd1c7a34d0c9d1b7a5e0a4c2f11", lock.Record{Hostname: "web2", By: "example"})
	var full *lock.FullError
	if errors.As(err, &full) {
		fmt.Println(full)
	}

	if err := web1.Release(ctx, "69d27b356a94476da859461d3a3bc6fd"); err != nil {
		log.Fatal(err)
	}
	semaphore, err := web2.Status(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(semaphore.Free, "of", semaphore.Max, "free")
	// Output:
	// no slot is free: max is 1, held by 69d27b356a94476da859461d3a3bc6fd
	// 1 of 1 free
}
