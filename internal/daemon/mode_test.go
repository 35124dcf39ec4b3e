package daemon

import (
	"testing"

	"github.com/locksmithd/locksmith/internal/policy"
)

var byHand = policy.Update{Source: policy.Requester, Pending: true}

func TestModeIsChosenRightBeforeTheReboot(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		s.run(Settings{Policy: policy.Config{Mode: policy.SoftReboot}})
		s.tell(byHand)
		s.expectCalls("0s local", "0s modes", "0s local", "0s reboot, soft-reboot")
		s.expectEnd(nil)
		if lines := s.find("rebooting"); len(lines) != 1 || lines[0]["why"] != "every gate is open; a soft reboot instead of a full one" {
			t.Errorf("the log has %v", lines)
		}
		if lines := s.find("logind was asked for a full reboot, because logind is older than systemd and refuses a soft reboot"); len(lines) > 0 {
			t.Errorf("the log has %v", lines)
		}
	})
}

func TestLogindThatIsOlderThanSystemdIsNamed(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		s.old = true
		s.run(Settings{Policy: policy.Config{Mode: policy.SoftReboot}})
		s.tell(byHand)
		s.expectState(policy.Rebooting)
		s.expectEnd(nil)
		if lines := s.find("logind was asked for a full reboot, because logind is older than systemd and refuses a soft reboot"); len(lines) != 1 {
			t.Errorf("the log has %v", lines)
		}
		if b := s.begun; len(b) != 2 || b[0].How.Mode != policy.SoftReboot || b[1].How != b[0].How.Refused() {
			t.Errorf("recorded %+v", b)
		}
	})
}
