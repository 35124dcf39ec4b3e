package policy

import (
	"cmp"
	"time"
)

// A Mode is what a reboot starts again.
type Mode string

const (
	FullReboot Mode = ""            // all, firmware and boot loader included
	SoftReboot Mode = "soft-reboot" // all processes, but not the kernel
	Kexec      Mode = "kexec"       // the kernel that is loaded, without firmware and boot loader
	Auto       Mode = "auto"        // only in Config: what is enough for the packages
)

// Text names such a reboot, with its article.
func (m Mode) Text() string {
	switch m {
	case SoftReboot:
		return "a soft reboot"
	case Kexec:
		return "a reboot by kexec"
	}
	return "a full reboot"
}

// Modes is how a host can reboot. Each reason is read after "because".
type Modes struct {
	ForPackages Mode            // is enough for what the packages have asked for
	Because     string          // why it is
	Impossible  map[Mode]string // and why
}

// A Choice is how a host reboots.
type Choice struct {
	Mode Mode   `json:"mode,omitempty"`
	Text string `json:"text,omitempty"` // what it is and why; "" for a full reboot that was asked for
}

// Refused returns how the host reboots if logind, which has not been started since an update of systemd, does not know
// the mode.
func (c Choice) Refused() Choice {
	return Choice{FullReboot, "a full reboot, because logind is older than systemd and refuses " + c.Mode.Text()}
}

// Choose returns how a host reboots where a mode is set. unfit says why modes would not be enough. A full reboot is
// always possible, and always enough. A nil m means that it is not known how else the host can reboot.
func (m *Modes) Choose(set Mode, unfit map[Mode]string) Choice {
	if set == FullReboot {
		return Choice{}
	}
	if m == nil {
		return Choice{FullReboot, "a full reboot, because it is not known yet how else this host can reboot"}
	}
	mode, because := set, ""
	if set == Auto {
		mode, because = m.ForPackages, m.Because
	}
	if why := cmp.Or(unfit[mode], m.Impossible[mode]); why != "" {
		mode, because = FullReboot, why
	}
	text := mode.Text()
	if mode != FullReboot {
		text += " instead of a full one"
	}
	if because != "" {
		text += ", because " + because
	}
	return Choice{mode, text}
}

// Unfit returns the modes that would not do what is needed, and why, after "because": update says that update_engine
// has installed one, or may have, and kernel what needs another kernel, if anything does.
func Unfit(update bool, kernel string) map[Mode]string {
	switch {
	case update:
		const why = "nothing else boots the update of update_engine"
		return map[Mode]string{SoftReboot: why, Kexec: why}
	case kernel != "":
		return map[Mode]string{SoftReboot: "a soft one does not start another kernel, which is needed: " + kernel}
	}
	return nil
}

// choose returns how the host reboots if it does so now.
func (m *Machine) choose() Choice {
	unfit := Unfit(m.newOS(), m.triggers.needsKernel())
	command := m.triggers.find(SentinelCommand.Name)
	if unfit == nil && !m.softSince.IsZero() && command != nil && command.pending && !command.changed {
		unfit = map[Mode]string{SoftReboot: "the last soft reboot did not change what the sentinel command says"}
	}
	return m.modes.Choose(m.config.Mode, unfit)
}

// SoftEvery is how long after a soft reboot the file of the packages cannot make the host do another one. Nothing
// removes the file in between, and something that changes it at each boot would make the host reboot again and again.
const SoftEvery = time.Hour

// softAgain returns when the host may do a soft reboot for the file of the packages, zero if it may do so now, or would
// reboot for something else, or in full.
func (m *Machine) softAgain() time.Time {
	set := m.config.Mode
	if m.softSince.IsZero() || set != SoftReboot && set != Auto {
		return time.Time{}
	}
	for _, e := range m.triggers.sources {
		if e.pending && (e.Name != Sentinel.Name || e.kernel || set == Auto && !e.soft) {
			return time.Time{}
		}
	}
	return m.softSince.Add(SoftEvery)
}
