package main

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"time"

	"github.com/locksmithd/locksmith/internal/config"
	"github.com/locksmithd/locksmith/internal/host"
	"github.com/locksmithd/locksmith/lock"
)

// target is the holder that a command is about: the one it was given, or else
// this machine.
func (a *app) target(args []string) (string, error) {
	if len(args) > 0 {
		return args[0], named(args[0])
	}
	return config.MachineID(a.root)
}

// named refuses the empty id, as of a variable of a script that is not set.
func named(id string) error {
	if id == "" {
		return usageError{errors.New("the machine id is empty")}
	}
	return nil
}

// identify tells the lock which host this is, if id is this machine's, and returns a record for id that
// says so. Of other hosts nothing is known here: they would take this one for a clone.
func (a *app) identify(s session, id string) (r lock.Record, this bool, err error) {
	if self, err := config.MachineID(a.root); err != nil || self != id {
		return lock.Record{}, false, nil
	}
	r, disk, err := host.Self(a.root)
	if err != nil {
		return lock.Record{}, false, err
	}
	s.Identify(r, disk)
	return r, true, nil
}

// record says who takes a slot for id, and when. There is no time-to-live, because an operator may well
// keep a slot for longer.
func (a *app) record(s session, id string) (lock.Record, error) {
	r, this, err := a.identify(s, id)
	if err != nil {
		return r, err
	}
	r.Since, r.By = a.now().UTC().Truncate(time.Second), "locksmithctl"
	if this && a.euid == 0 { // nobody else can write it
		if r.Token, err = host.NewToken(a.root); err != nil {
			a.note("a reboot that renames this host may make it look like another one with its machine id: %v", err)
		}
	}
	return r, nil
}

// operator says who runs this program, for others: user@host.
func (a *app) operator() (string, error) {
	name := a.getenv("SUDO_USER")
	if name == "" {
		name = fmt.Sprintf("uid %d", a.euid)
		if u, err := user.LookupId(fmt.Sprint(a.euid)); err == nil {
			name = u.Username
		}
	}
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("find the name of this host: %w", err)
	}
	return name + "@" + host, nil
}
