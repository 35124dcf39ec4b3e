package policy

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

func TestChoose(t *testing.T) {
	able := &Modes{ForPackages: SoftReboot, Because: "the file says so"}
	for _, test := range []struct {
		name  string
		modes *Modes
		set   Mode
		unfit map[Mode]string
		want  Choice
	}{
		{"full", able, FullReboot, nil, Choice{}},
		{"full, nothing known", nil, FullReboot, nil, Choice{}},
		{"soft", able, SoftReboot, nil, Choice{SoftReboot, "a soft reboot instead of a full one"}},
		{"kexec", able, Kexec, nil, Choice{Kexec, "a reboot by kexec instead of a full one"}},
		{"auto", able, Auto, nil, Choice{SoftReboot, "a soft reboot instead of a full one, because the file says so"}},
		{"auto, full", &Modes{Because: "there is no file"}, Auto, nil, Choice{FullReboot, "a full reboot, because there is no file"}},
		{"nothing known", nil, SoftReboot, nil, Choice{FullReboot, "a full reboot, because it is not known yet how else this host can reboot"}},
		{"it cannot", &Modes{Impossible: map[Mode]string{SoftReboot: "it is too old"}}, SoftReboot, nil, Choice{FullReboot, "a full reboot, because it is too old"}},
		{"it cannot the other", &Modes{Impossible: map[Mode]string{SoftReboot: "it is too old"}}, Kexec, nil, Choice{Kexec, "a reboot by kexec instead of a full one"}},
		{"an update, soft", able, SoftReboot, Unfit(true, ""), Choice{FullReboot, "a full reboot, because nothing else boots the update of update_engine"}},
		{"an update, kexec", able, Kexec, Unfit(true, "linux-image"), Choice{FullReboot, "a full reboot, because nothing else boots the update of update_engine"}},
		{"an update, auto", able, Auto, Unfit(true, ""), Choice{FullReboot, "a full reboot, because nothing else boots the update of update_engine"}},
		{"a kernel, soft", able, SoftReboot, Unfit(false, "linux-image"), Choice{FullReboot, "a full reboot, because a soft one does not start another kernel, which is needed: linux-image"}},
		{"a kernel, kexec", able, Kexec, Unfit(false, "linux-image"), Choice{Kexec, "a reboot by kexec instead of a full one"}},
	} {
		if got := test.modes.Choose(test.set, test.unfit); got != test.want {
			t.Errorf("%s: got %+v, want %+v", test.name, got, test.want)
		}
	}
}

// modeRig is a machine for a mode, in a boot that began with a soft reboot or not.
func modeRig(t *testing.T, mode Mode, softBoot bool) *rig {
	r := newRig(t, true)
	config := people5m
	config.Lock, config.Window, config.Mode = true, r.door, mode
	found := Found{Sources: []Source{SentinelCommand}}
	if softBoot {
		found.SoftSince = r.now
	}
	r.m = New(config, found, r.now, rand.New(rand.NewPCG(1, 2)))
	r.m.wall = func(t time.Time) time.Time { return t.Add(r.ahead) }
	return r.do(Tick{}, calledOff, notHeld)
}

func TestRebootIsOfTheModeThatIsChosen(t *testing.T) {
	says := func(needed bool) Update { return Update{Source: SentinelCommand, Pending: needed} }
	able := Checked{Held: true, Modes: &Modes{}}
	for _, test := range []struct {
		name     string
		set      Mode
		softBoot bool
		script   []any
		mode     Mode
		why      string
	}{
		{"full", FullReboot, false, []any{asked, got, clear}, FullReboot, "every gate is open"},
		{"by hand", SoftReboot, false, []any{asked, got, able}, SoftReboot, "every gate is open; a soft reboot instead of a full one"},
		{"an update", SoftReboot, false, []any{need, got, able}, FullReboot, "every gate is open; a full reboot, because nothing else boots the update of update_engine"},
		{"an update, announced late", SoftReboot, false, []any{asked, got, Checked{Held: true, Modes: &Modes{}, Updates: []Update{{Source: Engine, Pending: true}}}}, FullReboot,
			"every gate is open; a full reboot, because nothing else boots the update of update_engine"},
		{"the command", SoftReboot, false, []any{says(true), got, able}, SoftReboot, "every gate is open; a soft reboot instead of a full one"},
		{"the command, again", SoftReboot, true, []any{says(true), got, able}, FullReboot, "every gate is open; a full reboot, because the last soft reboot did not change what the sentinel command says"},
		{"the command, anew", SoftReboot, true, []any{says(false), says(true), got, able}, SoftReboot, "every gate is open; a soft reboot instead of a full one"},
		{"by hand after a soft reboot", SoftReboot, true, []any{asked, got, able}, SoftReboot, "every gate is open; a soft reboot instead of a full one"},
		// The check began before the mode was set.
		{"set meanwhile", FullReboot, false, []any{asked, got, Reconfigure{Config{Lock: true, Mode: SoftReboot}}, clear}, FullReboot,
			"every gate is open; a full reboot, because it is not known yet how else this host can reboot"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := modeRig(t, test.set, test.softBoot).do(test.script...)
			r.expect(Rebooting, reboots, false)
			if e, ok := r.last.Start.(Reboot); !ok || e.How.Mode != test.mode {
				t.Errorf("the effect is %+v, want mode %q", r.last.Start, test.mode)
			}
			if why := r.m.Snapshot(r.now).Why; why != test.why {
				t.Errorf("the reason is %q, want %q", why, test.why)
			}
			line := "rebooting: logind was asked Mon 2026-03-02 04:00:00 UTC"
			if how, chosen := strings.CutPrefix(test.why, "every gate is open; "); chosen {
				line += " for " + how
			}
			if status := r.m.Status(r.now); !strings.HasSuffix(status, line) {
				t.Errorf("the status is %q, want %q at its end", status, line)
			}
		})
	}
}

func TestStatusSaysHowLogindWasAskedInTheEnd(t *testing.T) {
	r := modeRig(t, SoftReboot, false).do(asked, got, Checked{Held: true, Modes: &Modes{}})
	how := r.last.Start.(Reboot).How
	r.do(Rebooted{How: how.Refused()}, time.Minute)
	const want = "for a full reboot, because logind is older than systemd and refuses a soft reboot, trying again "
	if s := r.m.Status(r.now); !strings.Contains(s, want) {
		t.Errorf("the status is %q, want something with %q", s, want)
	}
}

// An accepted soft reboot that does not come is like any other, and the next try chooses again.
func TestSoftRebootThatDoesNotComeIsTriedAgain(t *testing.T) {
	able := Checked{Held: true, Modes: &Modes{}}
	r := modeRig(t, SoftReboot, false).do(asked, got, able, accepted, RebootGrace)
	r.expect(Releasing, unschedules, false)
	r.do(calledOff, given, time.Minute, got, Checked{Held: true, Modes: &Modes{Impossible: map[Mode]string{SoftReboot: "it is too old"}}})
	r.expect(Rebooting, reboots, false)
	if e := r.last.Start.(Reboot); e.How.Mode != FullReboot {
		t.Errorf("the effect is %+v", e)
	}
}

func TestARestartOfTheMachineKnowsOfTheSoftReboot(t *testing.T) {
	r := modeRig(t, SoftReboot, true)
	if m := r.m.Restart(r.m.config, r.now); m.softSince.IsZero() {
		t.Error("it does not")
	}
}

// What a source has needed another kernel for stays so, also if it says less later: SUSE's file has what the last
// packages need.
func TestAnotherKernelTakesAFullReboot(t *testing.T) {
	file := func(kernel bool) Update {
		return Update{Source: Sentinel, Pending: true, Reason: "/run/reboot-required", Kernel: kernel}
	}
	able := Checked{Held: true, Modes: &Modes{}}
	const why = "every gate is open; a full reboot, because a soft one does not start another kernel, which is needed: /run/reboot-required"
	for name, script := range map[string][]any{
		"at once":           {file(true)},
		"later":             {file(false), file(true)},
		"earlier":           {file(true), file(false)},
		"and the command":   {file(true), Update{Source: SentinelCommand, Pending: true}},
		"just done, a file": {file(true)},
	} {
		r := modeRig(t, SoftReboot, name == "just done, a file").do(script...).do(got, able)
		if why2 := r.m.Snapshot(r.now).Why; r.m.choice.Mode != FullReboot || why2 != why {
			t.Errorf("%s: the reason is %q", name, why2)
		}
	}
	r := modeRig(t, SoftReboot, false).do(file(true), Update{Source: Sentinel}, lockEnded, asked, got, able)
	if r.m.choice.Mode != SoftReboot {
		t.Errorf("once it needs none, it is %+v", r.m.choice)
	}
	if r = modeRig(t, Kexec, false).do(file(true), got, able); r.m.choice.Mode != Kexec {
		t.Errorf("with kexec it is %+v", r.m.choice)
	}
}

// Something may change the file of the packages at each boot.
func TestSoftRebootForTheFileIsNotSoonAfterAnother(t *testing.T) {
	file := Update{Source: Sentinel, Pending: true, Reason: "/run/reboot-required"}
	modeRig(t, Auto, true).do(file).expect(Locking, locks, false) // a full reboot
	for _, mode := range []Mode{SoftReboot, Auto} {
		file.Soft = mode == Auto
		r := modeRig(t, mode, true).do(10*time.Minute, file)
		r.expect(Waiting, nothing, false)
		const held = "held back by the last soft reboot, which is not an hour ago: the file of the packages has been changed since, " +
			"and the host does another one Mon 2026-03-02 05:00:00 UTC at the earliest"
		if s := r.m.Status(r.now); !strings.Contains(s, held) {
			t.Errorf("the status is %q", s)
		}
		r.await(Locking, time.Hour)
		if waited := r.now.Sub(t0); waited != SoftEvery {
			t.Errorf("it has waited for %v", waited)
		}
		modeRig(t, mode, true).do(file, asked).expect(Locking, locks, false) // by hand
		modeRig(t, mode, false).do(file).expect(Locking, locks, false)
	}
	modeRig(t, FullReboot, true).do(file).expect(Locking, locks, false)
}

// A file that is done, and is there, is named until it is gone.
func TestTroubleOfASourceThatNeedsNoRebootIsShown(t *testing.T) {
	r := modeRig(t, SoftReboot, true).do(Update{Source: Sentinel, Trouble: errNonsense})
	if s := r.m.Status(r.now); !strings.HasPrefix(s, "idle: ") || !strings.HasSuffix(s, "; nonsense") {
		t.Errorf("the status is %q", s)
	}
	if r.do(Update{Source: Sentinel}); strings.Contains(r.m.Status(r.now), "nonsense") {
		t.Errorf("the status is %q", r.m.Status(r.now))
	}
}
