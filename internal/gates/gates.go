// Package gates asks what may hold a reboot of this host back and needs I/O: how earlier reboots for the version ended,
// the host's own scripts, and the alerts of its fleet.
//
// It guarantees that every question ends in time, reads a bounded answer, and that a question without a clear answer
// counts as no. It keeps nothing between two calls: no connection, no goroutine, no content of a file.
package gates

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/locksmithd/locksmith/internal/history"
	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/internal/safetext"
)

const (
	// scriptsTimeout is how long the host's scripts have to answer.
	scriptsTimeout = 30 * time.Second
	// alertsTimeout is how long a server has to answer.
	alertsTimeout = 10 * time.Second
	// Timeout bounds Ask: the scripts, and then all servers at the same time.
	Timeout = scriptsTimeout + alertsTimeout
)

// MayRebootUnit runs the scripts in the folders may-reboot.d.
const MayRebootUnit = "locksmith-may-reboot.service"

// Units starts units of systemd.
type Units interface {
	// Start starts a unit and waits for its end, or that of ctx. The text of the error says why it failed.
	Start(ctx context.Context, unit string) error
}

// Gates are those of one host. Nothing set: none.
type Gates struct {
	Root        string // directory that stands for "/"
	MaxAttempts int    // reboots that may fail to bring up a version; 0: any number
	Units       Units
	Alerts      Alerts
}

// Ask returns what holds back a reboot for what is needed, nil for nothing.
func (g *Gates) Ask(ctx context.Context, need policy.Need) *policy.Obstacle {
	if o := g.attempts(need.Version); o != nil {
		return o
	}
	if o := g.mayReboot(ctx); o != nil {
		return o
	}
	return g.Alerts.ask(ctx)
}

// attempts says whether too many reboots did not bring a version up.
func (g *Gates) attempts(version string) *policy.Obstacle {
	if g.MaxAttempts <= 0 {
		return nil
	}
	n, why, err := history.New(g.Root).Failed(version)
	switch {
	case err != nil:
		return &policy.Obstacle{Kind: policy.Attempts, Text: fmt.Sprintf("what is known of earlier reboots: %v", err)}
	case n < g.MaxAttempts:
		return nil
	}
	text := fmt.Sprintf("%d reboots that did not bring up version %s", n, version)
	if version == "" {
		text = fmt.Sprintf("%d reboots after which this host was not well", n)
	}
	if why != "" {
		text += " (" + why + ")"
	}
	return &policy.Obstacle{Kind: policy.Attempts, Text: text + `; another version or "locksmithctl unhold" ends that`}
}

// mayReboot asks the host's scripts, if there are any.
func (g *Gates) mayReboot(ctx context.Context) *policy.Obstacle {
	no := func(err error) *policy.Obstacle {
		return &policy.Obstacle{Kind: policy.MayReboot, Text: "may-reboot.d: " + safetext.Cut(err.Error(), maxText)}
	}
	scripts, err := g.scripts()
	if err != nil {
		return no(err)
	}
	if !scripts {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, scriptsTimeout, fmt.Errorf("no answer within %v", scriptsTimeout))
	defer cancel()
	if err := g.Units.Start(ctx, MayRebootUnit); err != nil {
		return no(err)
	}
	return nil
}

// maxText bounds a text of others, in bytes.
const maxText = 512

// scripts reports whether a folder of scripts has anything in it. What of it counts is up to the unit.
func (g *Gates) scripts() (bool, error) {
	for _, dir := range []string{"/etc", "/run", "/usr/lib"} {
		path := filepath.Join(g.Root, dir, "locksmith/may-reboot.d")
		entries, err := os.ReadDir(path)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return false, err
		}
		for _, e := range entries {
			if !strings.HasPrefix(e.Name(), ".") {
				return true, nil
			}
		}
	}
	return false, nil
}
