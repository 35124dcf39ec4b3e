package permit

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/locksmithd/locksmith/fleetlock"
	"github.com/locksmithd/locksmith/internal/backoff"
	"github.com/locksmithd/locksmith/internal/fleetclient"
	"github.com/locksmithd/locksmith/internal/host"
	"github.com/locksmithd/locksmith/internal/safetext"
)

// Leftover are the slots that this host may have, and that its settings do not name, or not any more: because they name
// another server, group or id, or another strategy. It is for one caller at a time.
type Leftover struct {
	file  file
	dial  fleetclient.Dial // nil for the network
	root  string
	log   *slog.Logger
	named Memory // by the settings; zero for none
}

// NewLeftover returns all slots that the host whose files are below root may have, for settings that name no server.
func NewLeftover(root string, log *slog.Logger) *Leftover {
	return &Leftover{file: newFile(root, log), root: root, log: log}
}

// Leftover returns the slots other than this one.
func (s *Slot) Leftover() *Leftover {
	return &Leftover{file: s.file, dial: s.dial, root: s.root, log: s.log, named: s.memory(None, noPurpose)}
}

// Slots returns the slots as the file has them.
func (l *Leftover) Slots() ([]Memory, error) {
	all, err := l.file.read()
	return l.of(all), err
}

// of returns those of all the slots of the file.
func (l *Leftover) of(all []Memory) []Memory {
	return slices.DeleteFunc(all, func(m Memory) bool { return !m.mayHold() || m.same(l.named) })
}

// Own reports whether a server may know this host by an id: its machine id, or the one that Zincati makes of it.
func (l *Leftover) Own(id string) (bool, error) {
	ids, err := l.ids()
	return slices.Contains(ids, id), err
}

// LeftError says which slots may still be held, and what to do.
type LeftError struct{ texts []string }

func (e *LeftError) Error() string { return strings.Join(e.texts, "; ") }

// GiveBack gives back the slots with an id, at once and all within a limit, and returns those that were. With id ""
// these are the slots of this host, and not those of the host of which it is a copy. An error is a [*LeftError], or
// says that it is not known which slots there are.
func (l *Leftover) GiveBack(ctx context.Context, id string, limit time.Duration) ([]Memory, error) {
	slots, err := l.Slots()
	if err != nil || len(slots) == 0 {
		return nil, err
	}
	ids := []string{id}
	if id == "" {
		if ids, err = l.ids(); err != nil {
			return nil, &LeftError{[]string{fmt.Sprintf("%v may still be held, and is not given back, because it is not "+
				"known whether it is this host's: %v", slots[0], err)}}
		}
	}
	limited, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer within %v", limit))
	defer cancel()
	errs := make([]error, len(slots))
	var requests sync.WaitGroup
	for n, m := range slots {
		if slices.Contains(ids, m.ID) {
			requests.Go(func() { errs[n] = l.giveBack(limited, m) })
		}
	}
	requests.Wait()
	var given []Memory
	var left []string
	for n, m := range slots {
		switch mine := slices.Contains(ids, m.ID); {
		case !mine && id == "":
			left = append(left, fmt.Sprintf(`%v may still be held, and is not given back, because this host has another id and `+
				`may be a copy of that one: "locksmithctl unlock %s" gives it back; to forget it, stop locksmithd and remove %s`,
				m, safetext.Clean(m.ID), l.file.path))
		case !mine:
		case errs[n] != nil:
			left = append(left, fmt.Sprintf(`%v may still be held, and could not be given back: %v; "locksmithctl unlock" `+
				`tries again; if that server is gone for good, stop locksmithd and remove %s`,
				m, errs[n], l.file.path))
		default:
			l.log.Info("gave back what the settings do not name any more", "what", m.String())
			given = append(given, m)
		}
	}
	if len(left) > 0 {
		return given, &LeftError{left}
	}
	return given, nil
}

func (l *Leftover) giveBack(ctx context.Context, m Memory) error {
	if err := m.SteadyState(ctx, l.dial, m.params()); err != nil {
		return err
	}
	return l.file.forget(ctx, m)
}

// ids returns the ids that this host may have at a server.
func (l *Leftover) ids() ([]string, error) {
	machineID, err := host.MachineID(l.root)
	if err != nil {
		return nil, err
	}
	ids := []string{machineID}
	if id, err := fleetlock.AppID(machineID); err == nil {
		ids = append(ids, id)
	}
	return ids, nil
}

// Try tries to give the slots of this host back until all are, or ctx ends, and logs what is in the way.
func (l *Leftover) Try(ctx context.Context) {
	said := ""
	for n := 0; ; n++ {
		_, err := l.GiveBack(ctx, "", ReleaseLimit)
		if err == nil || ctx.Err() != nil {
			return
		}
		if says := err.Error(); says != said {
			said = says
			l.log.Warn(says)
		}
		if backoff.Sleep(ctx, backoff.Delay(n, firstPause, pauseLimit)); ctx.Err() != nil {
			return
		}
	}
}
