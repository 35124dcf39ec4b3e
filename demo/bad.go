package main

import (
	"context"
	"errors"
	"time"

	"github.com/locksmithd/locksmith/internal/hooks"
)

// The versions of a bad update, beside newVersion, with which no host becomes well.
const (
	oldVersion = "4081.1.0" // that the hosts run at first
	fixVersion = "4081.2.1"
)

// stands is how long a rollout that has stopped is watched before the fix comes.
const stands = 3 * time.Second

// healthTimeout is how long a host may take to become well: less than anybody would set, for a short demo, and enough
// for hosts that boot at once on one machine.
func (o options) healthTimeout() time.Duration {
	return 5*time.Second + time.Duration(min(o.hosts, o.max))*100*time.Millisecond
}

// The check of the hosts, and what it says of newVersion.
const (
	checkName = "10-smoke"
	checkSays = "the service answers 503"
)

// check is a script in after-reboot.d. It looks at the version of its own simulated host.
var check = `#!/bin/sh
. "${0%/*}/../../os-release"
if [ "$VERSION_ID" = ` + newVersion + ` ]; then
	echo "` + checkSays + `"
	exit 1
fi
`

// prepareBad gives a host a name, a version, and the check.
func (h *simulated) prepareBad() error {
	return errors.Join(h.Rename(h.name), h.SetOSVersion(oldVersion), h.AddScript(hooks.AfterReboot, checkName, check))
}

// mend shows what an administrator sees of a rollout that has stopped, and makes every update_engine announce the fix,
// after a while in which nothing may happen.
func (d *director) mend(ctx context.Context) {
	d.do(ctx, "", func() error {
		text, out, err := d.ctl(ctx, "status", "-o", "wide")
		if err != nil {
			return err
		}
		d.report(ctx, event{Kind: shown, Text: text + " prints\n" + out})
		select {
		case <-time.After(stands):
		case <-ctx.Done():
			return nil
		}
		return d.announce(ctx, fixVersion)
	})
}
