package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"time"

	"github.com/locksmithd/locksmith/internal/config"
	"github.com/locksmithd/locksmith/internal/daemon"
	"github.com/locksmithd/locksmith/internal/host"
	"github.com/locksmithd/locksmith/internal/permit"
	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/internal/safetext"
	"github.com/locksmithd/locksmith/lock"
)

// ownPermit returns this host's slot of a FleetLock server, to take it or to give it back.
func (a *app) ownPermit(ctx context.Context, cfg *config.Config) (*permit.Slot, error) {
	boot, err := a.thisBoot(ctx)
	if err != nil {
		return nil, err
	}
	return a.permit(cfg, boot)
}

// permit returns this host's slot of a FleetLock server. Without a boot it can be shown, and those of others be given
// back.
func (a *app) permit(cfg *config.Config, boot host.Boot) (*permit.Slot, error) {
	c := permit.Config{Server: cfg.FleetLock.Server, Group: cfg.Group, MachineID: cfg.FleetLock.MachineID}
	return permit.New(c, a.root, boot, slog.New(noting{a}))
}

// onlyRoot returns an error unless the file in which this host remembers its slot can be written.
func (a *app) onlyRoot() error {
	if a.euid != 0 {
		return errors.New("only root may take and give back this host's slot of a FleetLock server: run it with sudo")
	}
	return nil
}

// notOffered says that a command is about etcd.
func notOffered(cfg *config.Config) error {
	return fmt.Errorf("this host takes its slots from the FleetLock server %s (REBOOT_STRATEGY=fleet-lock), which can only be asked for a slot and given one back, by lock, unlock and reboot, while status in text shows what this host knows: for anything else run locksmithctl where the server's etcd can be reached, or here with -endpoint",
		cfg.FleetLock.Server.URL)
}

// longAnswer is when it is said that a server has not answered yet.
const longAnswer = 5 * time.Second

// acquirePermit takes a slot, with -wait in its turn. Without it the host asks once, and the server may let that
// request wait: who ended it early would not know what comes of it. already reports that this host had one before;
// with -wait that is not known.
func (a *app) acquirePermit(ctx context.Context, s *permit.Slot, purpose policy.Lock, f queueFlags) (already bool, err error) {
	limited, cancel := withTimeout(ctx, time.Duration(f.timeout))
	defer cancel()
	const unanswered = "the FleetLock server has not answered yet"
	last := unanswered
	if f.wait {
		notes := a.startNotes()
		noted := ""
		err = s.Acquire(limited, purpose, func(says string) {
			if last = says; says != noted {
				noted = says
				notes.add("waiting: " + says)
			}
		})
		notes.end()
	} else {
		late := time.AfterFunc(longAnswer, func() {
			a.note("%s: it may let the request wait for a slot; an interrupt ends that", unanswered)
		})
		already, err = s.Try(ctx, purpose)
		late.Stop()
	}
	switch {
	case errors.Is(err, daemon.ErrUnknown):
		return false, fmt.Errorf(`%w; this host may hold a slot: "locksmithctl unlock" gives it back`, err)
	case err != nil && f.wait && limited.Err() != nil && ctx.Err() == nil:
		return false, fmt.Errorf("take a slot: none within %v: %s", time.Duration(f.timeout), last)
	case err != nil && !f.wait:
		return false, fmt.Errorf("take a slot: %s", permit.Says(err))
	}
	return already, err
}

// lockPermit takes a slot for this host.
func (a *app) lockPermit(ctx context.Context, cfg *config.Config, args []string, f queueFlags) error {
	s, err := a.ownPermit(ctx, cfg)
	if err != nil {
		return err
	}
	switch own, err := a.isOwn(s, args); {
	case err != nil:
		return err
	case !own:
		return errors.New("a host can take a slot of a FleetLock server only for itself: leave the id out")
	}
	if err := a.onlyRoot(); err != nil {
		return err
	}
	already, err := a.acquirePermit(ctx, s, policy.Lock{}, f)
	if err == nil && already {
		a.note("this host holds a slot already")
	}
	return err
}

// unlockPermit gives back the slot of this host, or of the one that the server knows by an id.
func (a *app) unlockPermit(ctx context.Context, cfg *config.Config, args []string) error {
	s, err := a.permit(cfg, host.Boot{})
	if err != nil {
		return err
	}
	id := strings.Join(args, "")
	named, err := a.isOwn(s, args)
	if err != nil {
		return err
	}
	own := named
	if !named { // the server may know this host by it, as LOCKSMITHD_FLEETLOCK_ID was before
		if own, err = s.Leftover().Own(id); err != nil {
			return err
		}
	}
	if own {
		if err := a.onlyRoot(); err != nil {
			return err
		}
	}
	if !named {
		if err := s.Free(ctx, id); err != nil {
			return err
		}
	}
	if !own {
		_, err := a.unlockLeftover(ctx, s.Leftover(), id)
		return err
	}
	if s, err = a.ownPermit(ctx, cfg); err != nil {
		return err
	}
	if err := s.Release(ctx); err != nil {
		return err
	}
	_, err = a.unlockLeftover(ctx, s.Leftover(), id)
	return err
}

// unlockLeftover gives back the slots that the settings do not name: those of this host, with its machine id, its id at
// a FleetLock server or "", or else those of another id. some reports that there are any; if not, err is nil. Only root
// can know.
func (a *app) unlockLeftover(ctx context.Context, l *permit.Leftover, id string) (some bool, err error) {
	if a.euid != 0 {
		return false, nil
	}
	if own, err := l.Own(id); err == nil && own {
		id = ""
	}
	given, err := l.GiveBack(ctx, id, permit.ReleaseLimit)
	for _, m := range given {
		a.note("gave back %v", m)
	}
	var left *permit.LeftError
	switch {
	case errors.As(err, &left):
		return true, err
	case err != nil && !errors.Is(err, fs.ErrPermission):
		a.note("it is not known whether this host has another slot of a FleetLock server: %v", err)
	}
	return len(given) > 0, nil
}

// leftover returns what this host may have of FleetLock servers where the settings name none.
func (a *app) leftover() *permit.Leftover {
	return permit.NewLeftover(a.root, slog.New(noting{a}))
}

// noteLeftover says which slots may be held that the settings do not name.
func (a *app) noteLeftover(l *permit.Leftover, slots []permit.Memory) {
	for _, m := range slots {
		unlock := "locksmithctl unlock"
		if own, err := l.Own(m.ID); err != nil || !own { // this host may be a copy of the one that has it
			unlock += " " + shellWord(m.ID)
		}
		a.note(`%v may still be held, since %s: "%s" gives it back`, m, m.Since.In(a.now().Location()).Format(policy.TimeLayout), unlock)
	}
}

// noteAllLeftover does that where the settings name no server. Only root can know.
func (a *app) noteAllLeftover() {
	l := a.leftover()
	slots, err := l.Slots()
	if err != nil && !errors.Is(err, fs.ErrPermission) {
		a.note("it is not known whether this host has a slot of a FleetLock server: %v", err)
	}
	a.noteLeftover(l, slots)
}

// isOwn reports whether a command is about this host: it has no argument, or the machine id, or the id that the server
// knows.
func (a *app) isOwn(s *permit.Slot, args []string) (bool, error) {
	if len(args) == 0 {
		return true, nil
	}
	machineID, err := host.MachineID(a.root)
	return args[0] == s.ID() || args[0] == machineID, err
}

// statusPermit shows what this host knows of its slot.
func (a *app) statusPermit(cfg *config.Config) error {
	s, err := a.permit(cfg, host.Boot{})
	if err != nil {
		return err
	}
	own, left, unknown := s.RecallAll()
	if err := a.print(fmt.Sprintf("Server: %s\nGroup:  %s\nID:     %s\nSlot:   %s\n", safetext.Clean(s.Server()), s.Group(), s.ID(), a.knownOfPermit(own, unknown))); err != nil {
		return err
	}
	a.noteLeftover(s.Leftover(), left)
	return nil
}

// knownOfPermit says what this host knows of its slot, from what RecallAll returns.
func (a *app) knownOfPermit(m permit.Memory, err error) string {
	since := m.Since.In(a.now().Location()).Format(policy.TimeLayout)
	version := ""
	if m.Version != "" {
		version = ", for version " + m.Version
	}
	switch {
	case err != nil:
		return "unknown: " + err.Error()
	case m.Slot == permit.Unknown:
		return "unknown, because nothing is recorded on this host"
	case m.Slot == permit.None:
		return "none since " + since
	case m.Slot == permit.Asked:
		return "asked for, and maybe held, since " + since + version
	}
	return "granted " + since + version
}

// rebootWithPermit takes a slot of a FleetLock server and reboots, as rebootUnder does with the lock in etcd.
func (a *app) rebootWithPermit(ctx context.Context, cfg *config.Config, m machine, queue queueFlags) error {
	s, err := a.ownPermit(ctx, cfg)
	if err != nil {
		return err
	}
	if err := m.open(ctx); err != nil {
		return err
	}
	defer m.conn.Close()
	version, err := m.announced(ctx)
	if err != nil {
		return err
	}
	purpose := policy.Lock{Version: version, NewOS: version != ""}
	before, err := s.Recall()
	own := err != nil || before.Slot != permit.Granted
	if _, err := a.acquirePermit(ctx, s, purpose, queue); err != nil {
		return err
	}
	m.slot = &permitted{s, purpose, own}
	return m.rebootWithSlot(ctx)
}

// permitted is the slot of a FleetLock server that a reboot by hand has.
type permitted struct {
	*permit.Slot
	purpose policy.Lock
	own     bool // this reboot took it
}

func (p *permitted) version() string { return p.purpose.Version }

func (p *permitted) check(ctx context.Context) (held, own bool, err error) {
	held, err = p.StillHeld(ctx)
	return held, p.own, err
}

func (p *permitted) giveBack(ctx context.Context) (kept bool, err error) {
	if !p.own {
		return true, nil
	}
	return false, p.Release(ctx)
}

func (p *permitted) tell(ctx context.Context, own bool, _ lock.Phase, _ string) error {
	return p.Report(ctx, policy.Report{Again: !own, Version: p.purpose.Version, NewOS: p.purpose.NewOS})
}

// noting makes notes of warnings.
type noting struct{ *app }

func (n noting) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }
func (n noting) WithAttrs([]slog.Attr) slog.Handler               { return n }
func (n noting) WithGroup(string) slog.Handler                    { return n }

func (n noting) Handle(_ context.Context, r slog.Record) error {
	var text strings.Builder
	text.WriteString(r.Message)
	r.Attrs(func(a slog.Attr) bool {
		fmt.Fprintf(&text, "; %s: %v", a.Key, a.Value)
		return true
	})
	n.note("warning: %s", text.String())
	return nil
}
