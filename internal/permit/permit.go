// Package permit is this host's slot, as a FleetLock server gives it.
//
// A FleetLock server cannot be asked whether a host has a slot: to ask is to take one. So the host remembers, in a
// file, what it has asked for and got. It guarantees that
//   - the file says that a slot may be held before each request for one is sent;
//   - a slot counts as held only after the server has granted it, and as given back only after the server has said so;
//     what is in between is settled by giving back, which is right whether a slot is held or not;
//   - no slot is lost with the file: at the first start in each boot, and whenever the file says nothing, the host
//     gives back what it may have.
//
// It does not guarantee that a place in the server's queue survives a restart of the program, or that a proxy does not
// deliver a request later that this host has given up: a slot that is granted that way is given back at the first start
// in the next boot. It does not know if another host has the same machine id.
package permit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/locksmithd/locksmith/fleetlock"
	"github.com/locksmithd/locksmith/internal/backoff"
	"github.com/locksmithd/locksmith/internal/daemon"
	"github.com/locksmithd/locksmith/internal/fleetclient"
	"github.com/locksmithd/locksmith/internal/host"
	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/internal/safetext"
)

const (
	// requestLimit bounds a request for a slot: the server may let it wait for its turn.
	requestLimit = 30 * time.Minute
	// heldOpen is how long a refusal takes at least from a server that lets requests wait.
	heldOpen = 10 * time.Second
	// pause is how long such a server is left alone between two requests.
	pause = 2 * time.Second
	// firstPause is the same for a server that refuses at once, and after a failure. It doubles up to pauseLimit.
	firstPause = 30 * time.Second
	pauseLimit = 5 * time.Minute
	// settleLimit bounds the end of a wait. The daemon has five seconds to stop.
	settleLimit = 4 * time.Second
	// heldLimit bounds the question whether the slot is still held. The server lets the request wait if it is not, but
	// users were told when the host reboots: see policy.Backstop.
	heldLimit = 10 * time.Second

	// ReleaseLimit bounds how long giving back takes, except at the end of a wait.
	ReleaseLimit = 30 * time.Second
	// BriefLimit bounds it for servers that may be gone, however many, where something else than their slots waits for
	// the answers: such as the daemon, which has five seconds to stop.
	BriefLimit = 3 * time.Second
)

// Config says who gives the slots, and to whom.
type Config struct {
	Server    fleetclient.Config
	Group     string // "" for the group default
	MachineID bool   // the host's id is its plain machine id, not the one that Zincati makes of it
}

// params returns the parameters of requests for the host whose files are below root.
func (c Config) params(root string) (fleetlock.Params, error) {
	p := fleetlock.Params{Group: cmp.Or(c.Group, fleetlock.DefaultGroup)}
	id, err := host.MachineID(root)
	if err == nil && !c.MachineID {
		if id, err = fleetlock.AppID(id); err != nil {
			err = fmt.Errorf("%w; LOCKSMITHD_FLEETLOCK_ID=machine-id takes it as it is", err)
		}
	}
	if p.ID = id; err == nil {
		err = p.Check()
	}
	return p, err
}

// Slot is a daemon.Locker. It is for one caller at a time.
type Slot struct {
	server fleetclient.Config
	dial   fleetclient.Dial // nil for the network
	params fleetlock.Params
	root   string
	boot   host.Boot
	file   file
	log    *slog.Logger

	unsaved   *Memory // what could not be written
	inspected bool    // Inspect has run, and since then what the settings do not name was not given back: see Release
}

var _ daemon.Locker = (*Slot)(nil)

// New returns the slot of the host whose files are below root, in a boot. It asks nobody yet.
func New(c Config, root string, boot host.Boot, log *slog.Logger) (*Slot, error) {
	params, err := c.params(root)
	if err != nil {
		return nil, err
	}
	return &Slot{server: c.Server, params: params, root: root, boot: boot, file: newFile(root, log), log: log}, nil
}

// ID returns the id of this host, as the server sees it.
func (s *Slot) ID() string { return s.params.ID }

// Server returns the base URL of the server, as requests use it.
func (s *Slot) Server() string { return strings.TrimRight(s.server.URL, "/") + "/" }

// Group returns the group, as the server sees it.
func (s *Slot) Group() string { return s.params.Group }

// LogValue says where the slot is.
func (s *Slot) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("server", safetext.Clean(s.Server())), slog.String("group", s.params.Group), slog.String("id", s.params.ID))
}

// Recall returns what this host remembers of its slot, the zero Memory for nothing.
func (s *Slot) Recall() (Memory, error) {
	if s.unsaved != nil {
		return *s.unsaved, nil
	}
	own, _, err := s.RecallAll()
	return own, err
}

// RecallAll returns what the file says of this slot, the zero Memory for nothing, and of those that the settings do not
// name: see Leftover.
func (s *Slot) RecallAll() (own Memory, left []Memory, err error) {
	all, err := s.file.read()
	named := s.memory(None, noPurpose)
	if n := slices.IndexFunc(all, named.same); n >= 0 {
		own = all[n]
	}
	return own, s.Leftover().of(all), err
}

// recall is Recall where what cannot be read is as good as nothing.
func (s *Slot) recall() Memory {
	m, _ := s.Recall()
	return m
}

// thisBoot reports whether a memory says that the slot is in a state since this boot.
func (s *Slot) thisBoot(m Memory, slot State) bool { return m.Slot == slot && m.BootID == s.boot.ID }

var noPurpose policy.Lock

// memory returns what to remember of this slot, which is in a state from now on.
func (s *Slot) memory(slot State, purpose policy.Lock) Memory {
	m := Memory{
		Config: s.server, Group: s.params.Group, ID: s.params.ID, BootID: s.boot.ID,
		Slot: slot, Since: time.Now().UTC().Truncate(time.Second),
	}
	m.URL = s.Server()
	if slot != None {
		m.Version = purpose.Version
	}
	if slot != None && purpose.NewOS {
		m.OSVersion = host.OSVersion(s.root)
	}
	return m
}

// save writes a memory down.
func (s *Slot) save(ctx context.Context, m Memory) error {
	err := s.file.remember(ctx, m)
	if err == nil {
		s.unsaved = nil
	}
	return err
}

// note remembers the state of the slot. If that cannot be written down, only this process knows it, and the file is
// removed, because what it says is no longer true. The file stays if it also names another slot: that one would be lost
// for good, while this one is given back at the first start in the next boot at the latest.
func (s *Slot) note(ctx context.Context, slot State, purpose policy.Lock) {
	m := s.memory(slot, purpose)
	err := s.save(ctx, m)
	if err == nil {
		return
	}
	s.unsaved = &m
	if stale := s.file.remove(ctx, m); stale != nil {
		s.log.Warn("what this host knows of its slot cannot be written, and the next start may take what the file says "+
			"for true; at the first start in the next boot the host gives back what it may have", "error", err, "and", stale)
		return
	}
	s.log.Warn("the next start will not know whether this host has a slot, and will give back what it may have",
		"error", err)
}

// Inspect asks no server. Where it is not known whether this host has a slot, the daemon gives back what it may have.
func (s *Slot) Inspect(ctx context.Context) (policy.Holding, policy.Purpose, error) {
	m, err := s.Recall()
	if err != nil {
		if err := s.file.settle(ctx); err != nil {
			s.log.Warn("what this host knows of its slot cannot be read, and stays as it is", "error", err)
		}
		return policy.HeldUnknown, policy.Purpose{}, nil
	}
	s.inspected = true
	purpose := policy.Purpose{Version: m.Version, OSVersion: m.OSVersion}
	switch {
	case s.thisBoot(m, Granted):
		return policy.HeldThisBoot, purpose, nil
	case m.Slot == Granted:
		purpose.Unbooted = m.OSVersion != "" && s.boot.SameKernel(m.BootID)
		return policy.HeldSinceBefore, purpose, nil
	case s.thisBoot(m, None):
		return policy.NotHeld, policy.Purpose{}, nil
	}
	return policy.HeldUnknown, policy.Purpose{}, nil
}

// wait is one wait for a slot.
type wait struct {
	*Slot
	purpose policy.Lock
	refused bool // the server has answered, and may keep a place for this host
	unknown bool // a request of this wait or an earlier one may have been carried out
}

// begin begins a wait. held reports that this host has had the slot before.
func (s *Slot) begin(purpose policy.Lock) (w *wait, held bool) {
	before := s.recall()
	held = before.Slot == Granted
	return &wait{Slot: s, purpose: purpose, unknown: !held && !s.thisBoot(before, None)}, held
}

// ask asks for the slot once. Before that the file says that the slot may be held: each time, because another process
// may have given it back in the meantime. What the file says of a slot from before the wait stays.
func (w *wait) ask(ctx context.Context) error {
	if m := w.recall(); m.Slot != Granted && !w.thisBoot(m, Asked) {
		w.note(ctx, Asked, w.purpose)
	}
	limited, cancel := context.WithTimeoutCause(ctx, requestLimit, fmt.Errorf("no answer within %v", requestLimit))
	defer cancel()
	err := w.server.PreReboot(limited, w.dial, w.params)
	switch {
	case err == nil && w.recall().Slot != Granted:
		w.note(ctx, Granted, w.purpose)
	case err != nil:
		w.refused = w.refused || refusal(err) != nil
		w.unknown = w.unknown || errors.Is(err, fleetlock.ErrUnknown)
	}
	return err
}

// end ends a wait without a grant, because of err. It withdraws the place at the server, and settles what is not
// known. A slot that the file says is granted stays.
func (w *wait) end(ctx context.Context, err error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleLimit)
	defer cancel()
	switch {
	case w.recall().Slot == Granted:
		return err
	case !w.refused && !w.unknown: // no request has reached the server
		w.note(ctx, None, noPurpose)
		return err
	}
	failure := w.server.SteadyState(ctx, w.dial, w.params)
	switch {
	case failure == nil:
		w.note(ctx, None, noPurpose)
	case w.unknown:
		return fmt.Errorf("%w: %w; and giving it back has failed: %w", daemon.ErrUnknown, err, failure)
	default:
		w.note(ctx, None, noPurpose)
		w.log.Warn("the server may keep a place in its queue for this host for a while", "error", failure)
	}
	return err
}

// refusal returns the answer of a server that did not grant a slot in the words of the protocol, nil for another error.
func refusal(err error) *fleetlock.Error {
	var answer *fleetlock.Error
	errors.As(err, &answer)
	return answer
}

// Says returns the error of a request as a wait reports it.
func Says(err error) string {
	if answer := refusal(err); answer != nil && answer.Status != http.StatusUnauthorized { // whose error says what to set
		return safetext.Clean(fmt.Sprintf("the FleetLock server answers %s: %s", answer.Kind, answer.Value))
	}
	return safetext.Cut(err.Error(), 1024)
}

// Acquire asks for a slot until it is granted. It gives up its place in the queue also for daemon.ErrKeepPlace, because
// the connection that waits is its place.
func (s *Slot) Acquire(ctx context.Context, purpose policy.Lock, blocked func(by string)) error {
	w, _ := s.begin(purpose)
	said, refusals := "", 0
	for {
		began := time.Now()
		err := w.ask(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return w.end(ctx, fmt.Errorf("take a slot: %w", ctx.Err()))
		}
		says := Says(err)
		answer := refusal(err)
		if says != said {
			said = says
			if answer != nil {
				s.log.Info("waiting for a slot", "server", safetext.Clean(s.Server()), "kind", answer.Kind, "says", safetext.Clean(answer.Value))
			} else {
				s.log.Warn("still waiting for a slot", "error", says)
			}
		}
		blocked(says)
		delay := backoff.Delay(refusals, firstPause, pauseLimit)
		refusals++
		if answer != nil && time.Since(began) >= heldOpen {
			delay, refusals = backoff.Delay(0, pause, pause), 0
		}
		if backoff.Sleep(ctx, delay); ctx.Err() != nil {
			return w.end(ctx, fmt.Errorf("take a slot: %w", ctx.Err()))
		}
	}
}

// Try asks for a slot once. The server decides how long that takes. already reports that the host had one before.
func (s *Slot) Try(ctx context.Context, purpose policy.Lock) (already bool, err error) {
	w, held := s.begin(purpose)
	if err := w.ask(ctx); err != nil {
		return false, w.end(ctx, err)
	}
	return held, nil
}

// StillHeld asks for the slot again, which the server grants to its holder, at once. The slot of an earlier boot counts
// as held until it is given back, and one that another process on this host has given back as not held: to ask for
// either would take it again after somebody has freed it.
func (s *Slot) StillHeld(ctx context.Context) (bool, error) {
	switch m := s.recall(); {
	case s.thisBoot(m, Granted):
	case m.Slot == Granted:
		return true, nil
	case s.thisBoot(m, None):
		return false, nil
	default:
		return false, fmt.Errorf("%s does not say any more that this host has its slot", s.file.path)
	}
	limited, cancel := context.WithTimeoutCause(ctx, heldLimit,
		fmt.Errorf("no answer within %v, and who has a slot gets one at once", heldLimit))
	defer cancel()
	err := s.server.PreReboot(limited, s.dial, s.params)
	switch {
	case err == nil:
		return true, nil
	case refusal(err) == nil || errors.Is(err, fleetlock.ErrUnknown):
		return false, err
	}
	s.log.Warn("the server has granted a slot, and refuses it now", "server", safetext.Clean(s.Server()), "error", err)
	if err := s.Release(ctx); err != nil {
		return false, err
	}
	return false, nil
}

// Release gives the slot back. After Inspect it also tries to give back what the settings do not name, until that has
// succeeded once. At another time that would be wrong: a server that has two names could take it for the slot that this
// host has by then.
func (s *Slot) Release(ctx context.Context) error {
	if err := s.Free(ctx, s.params.ID); err != nil {
		return err
	}
	s.note(ctx, None, noPurpose)
	if s.inspected {
		if _, err := s.Leftover().GiveBack(ctx, "", BriefLimit); err != nil {
			s.log.Warn(err.Error())
		} else {
			s.inspected = false
		}
	}
	return nil
}

// Free gives back the slot of the host with an id, which the server may not know. What this host remembers stays.
func (s *Slot) Free(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, ReleaseLimit)
	defer cancel()
	return s.server.SteadyState(ctx, s.dial, fleetlock.Params{ID: id, Group: s.params.Group})
}

// Report tells nobody, since FleetLock has no words for it. That the host reboots once more with the slot that it has
// held since before this boot is written down.
func (s *Slot) Report(ctx context.Context, r policy.Report) error {
	if !r.Again {
		return nil
	}
	return s.save(ctx, s.memory(Granted, policy.Lock{Version: r.Version, NewOS: r.NewOS}))
}
