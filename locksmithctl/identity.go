package main

import (
	"fmt"
	"os"
	"os/user"
	"time"

	"github.com/locksmithd/locksmith/internal/host"
	"github.com/locksmithd/locksmith/lock"
)

// target returns the machine id that a command is about: its argument, or else that of this machine.
func (a *app) target(args []string) (string, error) {
	if len(args) > 0 {
		return args[0], nil
	}
	return host.MachineID(a.root)
}

// identify tells the lock which host this is, and returns a record that says so, if id is this machine's. For other
// ids it does nothing: this host knows nothing about theirs, and they would take it for a clone.
func (a *app) identify(s session, id string) (r lock.Record, this bool, err error) {
	if self, err := host.MachineID(a.root); err != nil || self != id {
		return lock.Record{}, false, nil
	}
	r, disk, err := host.Self(a.root)
	if err != nil {
		return lock.Record{}, false, err
	}
	s.Identify(r, disk)
	return r, true, nil
}

// record returns a record of who takes a slot for id, and when. It has no time-to-live, because an operator may keep
// a slot for as long as they like.
func (a *app) record(s session, id string) (lock.Record, error) {
	r, this, err := a.identify(s, id)
	if err != nil {
		return r, err
	}
	r.Since, r.By = a.now().UTC().Truncate(time.Second), "locksmithctl"
	if this && a.euid == 0 { // only root can write the token
		if r.Token, err = host.NewToken(a.root); err != nil {
			a.note("a reboot that renames this host may make it look like another one with its machine id: %v", err)
		}
	}
	return r, nil
}

// operator returns who runs this program, as others see it: user@host.
func (a *app) operator() (string, error) {
	name := a.getenv("SUDO_USER")
	if name == "" {
		name = fmt.Sprintf("uid %d", a.euid)
		if u, err := user.LookupId(fmt.Sprint(a.euid)); err == nil {
			name = u.Username
		}
	}
	hostname, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("find the name of this host: %w", err)
	}
	return name + "@" + hostname, nil
}
