package host

import (
	"context"
	"fmt"
	"slices"

	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/systemd"
)

// AtWork returns what may hold a reboot of this host back, hold files and installations below root included. If logind
// does not name the people who are logged in, they are "somebody". The error is that of a logind which does not even
// say what is scheduled: it would accept no reboot, either. What users can keep it from saying is in Unclear, because
// users can postpone a reboot for a limited time only. Inhibitors have no PID: a job that takes a new one again and
// again stays the same.
func AtWork(ctx context.Context, root string, logind *systemd.Logind) (policy.Local, error) {
	sessions, err := logind.Sessions(ctx)
	var users []string
	if err != nil {
		users = []string{"somebody"}
	}
	for _, s := range sessions {
		if !slices.Contains(users, s.User) {
			users = append(users, s.User)
		}
	}
	local, err := atWork(ctx, root, logind, users, err)
	for i := range local.Inhibitors {
		local.Inhibitors[i].PID = 0
	}
	return local, err
}

// OthersAtWork is AtWork without the sessions of the user who runs this process. It also says on which terminals the
// others are.
func OthersAtWork(ctx context.Context, root string, logind *systemd.Logind) (policy.Local, error) {
	sessions, err := logind.OtherSessions(ctx)
	var users []string
	for _, s := range sessions {
		user := s.User
		if s.TTY != "" {
			user += " on " + s.TTY
		}
		users = append(users, user)
	}
	return atWork(ctx, root, logind, users, err)
}

// atWork asks for everything but sessions. unclear is why the users are not known.
func atWork(ctx context.Context, root string, logind *systemd.Logind, users []string, unclear error) (policy.Local, error) {
	local := policy.Local{Holds: Holds(root), Installing: Installing(root), Users: users, Unclear: unclear}
	inhibitors, err := logind.Inhibitors(ctx)
	switch {
	case err != nil && unclear != nil:
		local.Unclear = fmt.Errorf("%w; %w", unclear, err)
	case err != nil:
		local.Unclear = err
	}
	for _, i := range inhibitors {
		local.Inhibitors = append(local.Inhibitors, policy.Inhibitor(i))
	}
	shutdown, err := logind.Scheduled(ctx)
	local.Shutdown = policy.Shutdown(shutdown)
	return local, err
}
