package fleetlock_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http/httptest"
	"sync"

	"github.com/locksmithd/locksmith/fleetlock"
)

// oneSlot lets one host of all groups reboot at a time.
type oneSlot struct {
	mu     sync.Mutex
	holder string
}

func (s *oneSlot) PreReboot(_ context.Context, _ fleetlock.Caller, p fleetlock.Params) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.holder != "" && s.holder != p.ID {
		return &fleetlock.Error{Kind: fleetlock.KindLockHeld, Value: "the slot is held by " + s.holder}
	}
	s.holder = p.ID
	return nil
}

func (s *oneSlot) SteadyState(_ context.Context, _ fleetlock.Caller, p fleetlock.Params) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.holder == p.ID {
		s.holder = ""
	}
	return nil
}

// A server that keeps its slot in memory, and two hosts.
func Example() {
	server := httptest.NewUnstartedServer(nil)
	server.Config = fleetlock.NewHTTPServer(&fleetlock.Handler{Server: &oneSlot{}})
	server.Start()
	defer server.Close()

	client, err := fleetlock.NewClient(server.URL, fleetlock.ClientOptions{})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	web1 := fleetlock.Params{ID: "web-1", Group: "workers"}
	web2 := fleetlock.Params{ID: "web-2", Group: "workers"}

	fmt.Println("web-1 may reboot:", client.PreReboot(ctx, web1) == nil)

	var refused *fleetlock.Error
	if err := client.PreReboot(ctx, web2); errors.As(err, &refused) {
		fmt.Println("web-2 has to wait:", refused)
	}

	fmt.Println("web-1 is back:", client.SteadyState(ctx, web1) == nil)
	fmt.Println("web-2 may reboot:", client.PreReboot(ctx, web2) == nil)
	// Output:
	// web-1 may reboot: true
	// web-2 has to wait: lock_held: the slot is held by web-1 (423)
	// web-1 is back: true
	// web-2 may reboot: true
}

// Nothing but a nil error lets a host reboot. Of the others, some leave open whether it has a slot now.
func ExampleClient_PreReboot() {
	server := httptest.NewServer(&fleetlock.Handler{Server: &scripted{}, Log: func(error) {}})
	defer server.Close()
	client, err := fleetlock.NewClient(server.URL, fleetlock.ClientOptions{})
	if err != nil {
		log.Fatal(err)
	}
	for _, id := range []string{"web-1", "waiting", "broken"} {
		switch err := client.PreReboot(context.Background(), fleetlock.Params{ID: id, Group: "workers"}); {
		case err == nil:
			fmt.Println(id, "has a slot, and may reboot")
		case errors.Is(err, fleetlock.ErrUnknown):
			fmt.Println(id, "may have a slot: it asks again, or gives it back")
		default:
			fmt.Println(id, "has no slot")
		}
	}
	// Output:
	// web-1 has a slot, and may reboot
	// waiting has no slot
	// broken may have a slot: it asks again, or gives it back
}

func ExampleAppID() {
	id, err := fleetlock.AppID("1c09ca98649c4c7abc779cd04c96812e\n")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(id)
	// Output: 978a225b3d7b40e9acd7ce9b62f68444
}
