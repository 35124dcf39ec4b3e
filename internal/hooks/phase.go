// Package hooks is what operators have run on a host around its reboot: scripts in folders, and units that are hooked
// into targets of ours.
//
// It guarantees that a run ends, with an error that names the script, whatever a script does: print without end, leave
// processes behind, end by a signal, not be executable. It shows and keeps a bounded part of what scripts print. It
// does not decide when a phase runs, nor how long it may take: the caller's context does.
package hooks

import (
	"fmt"
	"slices"
	"strings"
)

// Phase is a moment in the life of a reboot at which hooks run.
type Phase string

// The phases.
const (
	MayReboot       Phase = "may-reboot"       // asked before the host queues for a slot, and again with the slot
	BeforeReboot    Phase = "before-reboot"    // with the slot held
	RebootCancelled Phase = "reboot-cancelled" // undoes BeforeReboot where no reboot follows
	AfterReboot     Phase = "after-reboot"     // health checks, and the end of what BeforeReboot began
)

// Notify is no phase of a reboot: its scripts get events, whenever there is one. See RunNotify.
const Notify Phase = "notify"

// BootComplete is systemd's own extension point for what has to succeed after a boot, see systemd.special(7). It comes
// before AfterReboot.
const BootComplete = "boot-complete.target"

// Phases returns all phases, in the order in which a host goes through them.
func Phases() []Phase { return []Phase{MayReboot, BeforeReboot, RebootCancelled, AfterReboot} }

// ParsePhase returns the phase of a name.
func ParsePhase(name string) (Phase, error) {
	if p := Phase(name); slices.Contains(Phases(), p) {
		return p, nil
	}
	var names []string
	for _, p := range Phases() {
		names = append(names, string(p))
	}
	last := len(names) - 1
	return "", fmt.Errorf("unknown phase %.50q: write %s or %s", name, strings.Join(names[:last], ", "), names[last])
}

// Target returns the unit that other units are hooked into, "" if there is none.
func (p Phase) Target() string {
	if p == MayReboot {
		return ""
	}
	return "locksmith-" + string(p) + ".target"
}

// Service returns the unit that runs the scripts. Those of Notify have a unit for each event.
func (p Phase) Service() string { return "locksmith-" + string(p) + ".service" }

// unit returns the unit whose start runs everything.
func (p Phase) unit() string {
	if p.Target() != "" {
		return p.Target()
	}
	return p.Service()
}
