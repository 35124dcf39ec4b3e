package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/locksmithd/locksmith/internal/config"
	"github.com/locksmithd/locksmith/internal/gates"
	"github.com/locksmithd/locksmith/internal/history"
	"github.com/locksmithd/locksmith/internal/hooks"
	"github.com/locksmithd/locksmith/internal/host"
	"github.com/locksmithd/locksmith/internal/notify"
	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/internal/sentinel"
	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/systemd"
	"github.com/locksmithd/locksmith/updateengine"
)

// machine is this host, and what may hold its reboot back.
type machine struct {
	root   string
	boot   host.Boot
	mode   policy.Mode   // as it is set
	file   sentinel.File // of the packages, which may need another kernel; without a path for none
	policy policy.Config // what of it counts for policy.Obstacles
	now    func() time.Time
	force  bool // nothing holds it back
	gates  gates.Gates
	hooks  *hooks.Hooks
	limit  time.Duration // of what is hooked in
	facts  hooks.Facts   // what hooks are told besides the version
	noID   error         // why they are not told the machine id
	log    *slog.Logger
	note   func(format string, args ...any)
	notify func(context.Context, ...notify.Event) // bounded, and safe for concurrent use

	history *history.File
	slot    rebootSlot // nil without the lock

	conn   *dbus.Conn
	logind *systemd.Logind
}

// configure says what holds the reboot back.
func (m *machine) configure(cfg *config.Config) error {
	if cfg.Window != nil { // a nil pointer in the interface would not be nil
		m.policy.Window = cfg.Window
	}
	if cfg.MinUptime > 0 {
		booted, err := m.boot.BeganAt(m.root, m.now())
		if err != nil {
			return fmt.Errorf("LOCKSMITHD_MIN_UPTIME is set, but this host's uptime is unknown: %w; -force overrides that", err)
		}
		m.policy.Earliest = booted.Add(cfg.MinUptime)
	}
	m.gates = gates.Gates{
		Root:        m.root,
		MaxAttempts: cfg.MaxAttempts,
		Hooks:       m.hooks,
		Facts:       m.facts,
		Alerts:      gates.Alerts(cfg.Alerts),
	}
	return nil
}

// rebootSlot is the slot that a reboot by hand has.
type rebootSlot interface {
	// version returns the version that it was taken for, "" if that is not known.
	version() string
	// check asks whether this host still has it, and whether this reboot took it. Otherwise the host held it before.
	check(ctx context.Context) (held, own bool, err error)
	// tell tells the fleet what this host does with it. own is what check has said.
	tell(ctx context.Context, own bool, phase lock.Phase, why string) error
	// giveBack gives it back if this reboot took it. kept reports that the host keeps it, which it held before.
	giveBack(ctx context.Context) (kept bool, err error)
}

// heldSlot is a slot of the lock in etcd.
type heldSlot struct {
	session
	id     string
	record lock.Record // with which this reboot began
	since  time.Time   // of the record with which it took the slot; zero before that was read
}

// taken reports whether this is the record with which this reboot took the slot, which says when that was, or when the
// reboot began. Otherwise the host held the slot before, maybe for another reboot.
func (h *heldSlot) taken(found lock.Record) bool {
	if found.By != h.record.By || found.Since.Before(h.record.Since) {
		return false
	}
	if h.since.IsZero() {
		h.since = found.Since
	}
	return found.Since.Equal(h.since)
}

func (h *heldSlot) version() string { return h.record.Version }

func (h *heldSlot) check(ctx context.Context) (held, own bool, err error) {
	held, found, err := h.Holder(ctx, h.id)
	return held, h.taken(found), err
}

func (h *heldSlot) tell(ctx context.Context, own bool, phase lock.Phase, why string) error {
	r := lock.Report{Phase: phase, Why: why}
	if !own {
		r.Again = &h.record
	}
	return h.Report(ctx, h.id, r)
}

func (h *heldSlot) giveBack(ctx context.Context) (kept bool, err error) {
	held, own, err := h.check(ctx)
	if err != nil || !held || !own {
		return held && !own, err
	}
	return false, h.Release(ctx, h.id)
}

// confirm reports whether this reboot took the slot. It returns an error unless this host has one for what it is about
// to boot: somebody may have freed it since, or update_engine have announced another version, which may be paused.
func (m machine) confirm(ctx context.Context) (own bool, err error) {
	held, own, err := m.slot.check(ctx)
	next, unknown := m.announced(ctx)
	taken := cmp.Or(m.slot.version(), "unknown")
	switch {
	case err != nil:
		err = fmt.Errorf("this host does not reboot: it is not known whether it still holds its slot: %w", err)
	case unknown != nil:
		err = unknown
	case !held:
		err = errors.New("this host does not reboot: it no longer holds its slot")
	case next != "" && next != taken:
		err = fmt.Errorf("this host does not reboot: the slot was taken for version %s, and a reboot is needed for %s now: run it again", taken, next)
	}
	return own, err
}

// giveBack gives the slot back after a reboot was refused, and returns why it was.
func (m machine) giveBack(ctx context.Context, refused error) error {
	if down, err := m.logind.GoingDown(ctx); err == nil && down {
		return fmt.Errorf(`%w; this host is already going down, and keeps the slot for that`, refused)
	}
	kept, err := m.slot.giveBack(ctx)
	if err == nil && kept {
		return fmt.Errorf(`%w; this host keeps the slot, which it held before: "locksmithctl unlock" gives it back`, refused)
	}
	if err != nil {
		return fmt.Errorf(`%w; and the slot could not be given back: %w; "locksmithctl unlock" tries again`, refused, err)
	}
	return refused
}

// open connects to the bus, and fails unless the host is ready. The caller closes the connection.
func (m *machine) open(ctx context.Context) (err error) {
	if m.conn, err = systemd.ConnectSystemBus(ctx); err != nil {
		return err
	}
	m.logind = systemd.NewLogind(m.conn)
	if err = m.ready(ctx); err != nil {
		m.conn.Close()
	}
	return err
}

// errNotUndone marks the error of a host that stays up and is drained.
var errNotUndone = errors.New("what ran before the reboot is not undone")

// goDown runs what is hooked in before a reboot, and reboots. With an error it reports whether the host needs its slot
// nevertheless: it may go down yet, or what has run is not undone.
func (m machine) goDown(ctx context.Context) (keep bool, err error) {
	facts := m.facts
	if facts.Version, err = m.announced(ctx); err != nil {
		return false, err
	}
	drained, err := m.drain(ctx, facts)
	if err == nil && m.slot != nil {
		var own bool
		if own, err = m.confirm(ctx); err == nil && (drained || !own) {
			m.tell(ctx, own, lock.Rebooting, facts.Reason)
		}
	}
	if err == nil {
		var told sync.WaitGroup // at the same time: a reboot waits for nobody who is told of it
		told.Go(func() {
			m.notify(ctx, notify.Event{Type: notify.RebootBegins, Group: facts.Group, Version: facts.Version, Reason: facts.Reason})
		})
		err = m.reboot(ctx, facts.Version)
		told.Wait()
		if err == nil {
			return false, nil
		} else if !errors.Is(err, systemd.ErrRefused) {
			return true, err
		}
	}
	if !drained {
		return false, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), m.limit)
	defer cancel()
	facts.Reason = err.Error()
	if undone := m.hooks.Run(ctx, hooks.RebootCancelled, facts); undone != nil {
		return true, fmt.Errorf(`%w; and %w: %w; "locksmithctl hooks run reboot-cancelled" tries again`, err, errNotUndone, undone)
	}
	return false, err
}

// drain runs what is hooked in, and reports whether it has begun.
func (m machine) drain(ctx context.Context, facts hooks.Facts) (begun bool, err error) {
	hooked, err := m.hooks.Hooked(ctx, hooks.BeforeReboot)
	if err != nil && !m.force {
		return false, fmt.Errorf("this host does not reboot: %w; -force overrides that", err)
	}
	if !hooked {
		return false, nil
	}
	if o := m.policy.NoRoom(m.now(), m.limit, m.clock); o != nil {
		return false, fmt.Errorf("this host does not reboot: held back by %s; -force overrides that", o.Text)
	}
	if m.slot != nil {
		own, err := m.confirm(ctx)
		if err != nil {
			return false, err
		}
		m.tell(ctx, own, lock.Draining, facts.Reason)
	}
	if m.noID != nil {
		m.note("hooks are not told the machine id: %v", m.noID)
	}
	limited, cancel := context.WithTimeoutCause(ctx, m.limit, fmt.Errorf("it was not over within %v", m.limit))
	defer cancel()
	switch err := m.hooks.Run(limited, hooks.BeforeReboot, facts); {
	case ctx.Err() != nil:
		return true, ctx.Err()
	case err == nil:
		return true, m.ready(ctx)
	case !m.force:
		return true, fmt.Errorf("what runs before a reboot has failed: %w; -force overrides that", err)
	default:
		m.note("what runs before a reboot has failed: %v", err)
		return true, nil
	}
}

// tell tells the fleet what this host does with its slot, which own says that this reboot took. It reboots, told or
// not.
func (m machine) tell(ctx context.Context, own bool, phase lock.Phase, why string) {
	if err := m.slot.tell(ctx, own, phase, why); err != nil {
		m.note("others do not see that this host is %s: %v", phase, err)
	}
}

// begin records what the reboot is for, and how, so that locksmithd checks after the boot what has come of it.
func (m machine) begin(ctx context.Context, version string, how policy.Choice) {
	if m.boot == (host.Boot{}) { // locksmithd would take this boot for the next one
		m.note("locksmithd will not know after the boot what this reboot was for")
		return
	}
	running := ""
	if version != "" {
		running = host.OSVersion(m.root)
	}
	if err := m.history.Begin(ctx, history.Reboot{BootID: m.boot.ID, Version: version, OSVersion: running, How: how.Text}); err != nil {
		m.note("locksmithd will not know after the boot what this reboot was for: %v", err)
	}
}

// reboot asks logind for a reboot, for a version. If the reboot itself interrupts that, it is a success.
func (m machine) reboot(ctx context.Context, version string) error {
	how := m.choose(ctx)
	m.begin(ctx, version, how)
	done, err := m.logind.Reboot(ctx, systemd.Mode(how.Mode), m.force)
	if policy.Mode(done) != how.Mode {
		how = how.Refused()
		m.note("this is %s", how.Text)
		m.begin(ctx, version, how)
	}
	if err != nil && !errors.Is(err, systemd.ErrRefused) && goingDown(ctx, m.logind) {
		return nil
	}
	return err
}

// choose returns how this host reboots, and says so.
func (m machine) choose(ctx context.Context) policy.Choice {
	if m.mode == policy.FullReboot {
		return policy.Choice{}
	}
	kernel := ""
	if state := m.file.Read(); m.file.Path != "" && state.Kernel {
		kernel = state.Reason
	}
	status, err := m.engine(ctx)
	unfit := policy.Unfit(status.NeedReboot(), kernel)
	if err != nil {
		const why = "update_engine does not say whether it has installed an update, which nothing else boots"
		unfit = map[policy.Mode]string{policy.SoftReboot: why, policy.Kexec: why}
	}
	modes := m.boot.Modes(m.root)
	choice := modes.Choose(m.mode, unfit)
	m.note("this is %s", choice.Text)
	return choice
}

// readyTimeout limits the questions to logind before a reboot.
const readyTimeout = 10 * time.Second

// ready returns an error that says what holds the reboot back. The gates that need I/O are asked only if nothing else
// does, and the others once more after them, because they may take a while.
func (m machine) ready(ctx context.Context) error {
	if m.force {
		return nil
	}
	obstacles := m.obstacles(ctx)
	if len(obstacles) == 0 {
		version, err := m.announced(ctx)
		if err != nil {
			return err
		}
		if o := m.gates.Ask(ctx, policy.Need{Version: version}); o != nil {
			obstacles = []policy.Obstacle{*o}
		} else {
			obstacles = m.obstacles(ctx)
		}
	}
	if ctx.Err() != nil {
		return fmt.Errorf("this host does not reboot: %w", ctx.Err())
	}
	var texts []string
	for _, o := range obstacles {
		texts = append(texts, o.Text)
	}
	if len(texts) > 0 {
		return fmt.Errorf("this host does not reboot: held back by %s; -force overrides that", strings.Join(texts, "; "))
	}
	return nil
}

// obstacles returns what holds the reboot back and can be answered at once.
func (m machine) obstacles(ctx context.Context) []policy.Obstacle {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	local, err := host.OthersAtWork(ctx, m.root, m.logind)
	if err != nil {
		local.Unclear = err
	}
	return policy.Obstacles(m.now(), m.policy, local, m.clock)
}

func (machine) clock(t time.Time) string { return t.Format(policy.TimeLayout) }

// announced returns the version that update_engine has installed and wants to reboot into; "" for none, and with -force
// if it does not say.
func (m machine) announced(ctx context.Context) (string, error) {
	status, err := m.engine(ctx)
	switch {
	case err != nil && !m.force:
		return "", fmt.Errorf("this host does not reboot: it is not known whether an update is installed, and which: %w; -force overrides that", err)
	case err != nil:
		m.log.Debug("it is not known whether an update is installed", "error", err)
	case status.NeedReboot():
		return status.NewVersion, nil
	}
	return "", nil
}

// engine returns the status of update_engine, the zero one where there is none. An error leaves open what it has
// installed.
func (m machine) engine(ctx context.Context) (updateengine.Status, error) {
	status, err := updateengine.New(m.conn, m.log, updateengine.Trust{}).Status(ctx)
	if errors.Is(err, updateengine.ErrAbsent) {
		return updateengine.Status{}, nil
	}
	return status, err
}

// goingDown reports whether it is certain that this host is shutting down. It asks for at most a second, also after
// the end of ctx.
func goingDown(ctx context.Context, logind *systemd.Logind) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	down, err := logind.GoingDown(ctx)
	return err == nil && down
}
