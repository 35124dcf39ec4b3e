package grant

import (
	"context"
	"fmt"
	"time"

	"github.com/locksmithd/locksmith/lock"
)

// Group is a group that the server serves.
type Group struct {
	Lock   string        // the group of the lock; "" for the default group
	Max    int           // the number of slots, if the server creates the lock
	TTL    time.Duration // how long a client may keep its slot; 0 for as long as it takes
	Window Window        // when slots are taken; nil for always
	Users  Users         // who may use the group; nil for whoever reaches the server
}

// Window is when slots are taken.
type Window interface {
	// Next returns the opening that contains t, or else the next one. A zero start means that nothing was before the
	// opening, and a zero end that nothing shuts it.
	Next(t time.Time) (start, end time.Time)
	// ShutBy names what keeps the window shut at t, beside its own times; "" for nothing.
	ShutBy(t time.Time) string
}

// Users are those who may use a group.
type Users interface {
	// Check reports whether the password is that of the user. An error means that this is not known. address is that of
	// the client.
	Check(ctx context.Context, address, user, password string) (bool, error)
}

// shut says why no slot is taken at t; "" if the window is open. end is when that changes, zero for never.
func (g Group) shut(t time.Time) (why string, end time.Time) {
	if g.Window == nil {
		return "", time.Time{}
	}
	start, end := g.Window.Next(t)
	if !start.After(t) {
		return "", end
	}
	why = "the reboot window is shut until " + start.Format("Mon 2006-01-02 15:04:05 MST")
	if by := g.Window.ShutBy(t); by != "" {
		why += ", after " + by
	}
	return why, start
}

const (
	// poll is how long it takes a client at most until it asks again: Zincati asks every five minutes, and up to a tenth
	// later.
	poll = 5*time.Minute + 30*time.Second
	// MaxHold is the longest hold. Zincati gives a request up after half an hour.
	MaxHold = 25 * time.Minute
)

// stay is how long the place of a client in the queue has to outlive a request so that it lasts for two polls. The
// lock promises two thirds of it where the request is held for long.
func stay(hold time.Duration) time.Duration { return 2*poll + min(hold, poll) }

// record is what the lock keeps of a client that asks from an address.
func (s *Server) record(g Group, id, address string) lock.Record {
	return lock.Record{
		Hostname: address,
		By:       "fleetlock",
		Since:    time.Now().UTC().Truncate(time.Second),
		Remote:   true,
		Owner:    owner(id),
		Stay:     stay(s.hold),
		TTL:      g.TTL,
	}
}

// owner is who has the place of a client in the queue. It is the same for all servers, so that the client may ask any.
func owner(id string) string { return fmt.Sprintf("fleetlock/%s", id) }
