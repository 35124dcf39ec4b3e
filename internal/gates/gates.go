// Package gates asks what may hold a reboot of this host back and needs I/O: how earlier reboots for the version ended,
// the host's own scripts, and the alerts of its fleet.
//
// It guarantees that every question ends in time, reads a bounded answer, and that a question without a clear answer
// counts as no. It keeps nothing between two calls: no connection, no goroutine, no content of a file.
package gates

import (
	"context"
	"fmt"
	"time"

	"github.com/locksmithd/locksmith/internal/history"
	"github.com/locksmithd/locksmith/internal/hooks"
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

// Gates are those of one host. Nothing set: none.
type Gates struct {
	Root        string // directory that stands for "/"
	MaxAttempts int    // reboots that may fail to bring up a version; 0: any number
	Hooks       *hooks.Hooks
	Facts       hooks.Facts // what scripts are told besides the version
	Alerts      Alerts
}

// Ask returns what holds back a reboot for what is needed, nil for nothing. It asks in the order of policy.AskOrder, and
// nobody after the first no.
func (g *Gates) Ask(ctx context.Context, need policy.Need) *policy.Obstacle {
	for _, kind := range policy.AskOrder() {
		var o *policy.Obstacle
		switch kind {
		case policy.Attempts:
			o = g.attempts(need.Version)
		case policy.MayReboot:
			o = g.mayReboot(ctx, need.Version)
		case policy.Alerts:
			o = g.Alerts.ask(ctx)
		}
		if o != nil {
			return o
		}
	}
	return nil
}

// attempts says whether too many reboots did not bring a version up.
func (g *Gates) attempts(version string) *policy.Obstacle {
	if g.MaxAttempts <= 0 {
		return nil
	}
	n, why, err := history.New(g.Root).Failed(version)
	switch {
	case err != nil:
		return &policy.Obstacle{Kind: policy.Unrecorded, Text: fmt.Sprintf("what is known of earlier reboots: %v", err)}
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
func (g *Gates) mayReboot(ctx context.Context, version string) *policy.Obstacle {
	if g.Hooks == nil {
		return nil
	}
	no := func(err error) *policy.Obstacle {
		return &policy.Obstacle{Kind: policy.MayReboot, Text: "may-reboot.d: " + safetext.Cut(err.Error(), maxText)}
	}
	hooked, err := g.Hooks.Hooked(ctx, hooks.MayReboot)
	if err != nil {
		return no(err)
	}
	if !hooked {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, scriptsTimeout, fmt.Errorf("no answer within %v", scriptsTimeout))
	defer cancel()
	facts := g.Facts
	facts.Version = version
	if err := g.Hooks.Run(ctx, hooks.MayReboot, facts); err != nil {
		return no(err)
	}
	return nil
}

// maxText bounds a text of others, in bytes.
const maxText = 512
