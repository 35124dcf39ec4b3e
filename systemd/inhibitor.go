package systemd

import (
	"context"
	"errors"
	"fmt"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/locksmithd/locksmith/internal/safetext"
)

// listTimeout bounds looking at all sessions, and each of the two looks at inhibitors. It is
// shorter than others, since users choose how long these take, and a daemon that asks twice
// within one check has to hear the rest.
const listTimeout = 4 * time.Second

// Inhibitor is a program's wish that the host does not shut down, see
// systemd-inhibit(1).
type Inhibitor struct {
	Who  string // the program, in its own words
	Why  string // its reason
	User string // login name of its user, or the number of one without a name
	PID  uint32 // the process that asked for it
}

// Inhibitors returns the inhibitors that block a shutdown: mode block, and
// block-weak, as the weaker kind is called since systemd 257. Until then block
// is all there is, and means what block-weak means now: root may shut down all
// the same. The mode delay is logind's business: it gives such a program some
// seconds, and then goes on.
//
// Where logind says that a shutdown is blocked and its list cannot be had, there is
// one inhibitor, which says so in the place of its reason.
func (l *Logind) Inhibitors(ctx context.Context) ([]Inhibitor, error) {
	blocked, err := l.blocked(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask logind what is inhibited: %w", err)
	}
	if !blocked {
		return nil, nil
	}
	blocking, err := l.listBlocking(ctx)
	// Report a lost connection, a malformed answer and an ended context to the caller.
	var refusal dbus.Error
	if ctx.Err() == nil && (errors.Is(err, context.DeadlineExceeded) || errors.As(err, &refusal)) {
		why := fmt.Sprintf("logind does not list who, see systemd-inhibit --list: %v", err)
		return []Inhibitor{{Who: "unknown", Why: safetext.Clean(why), User: "unknown"}}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list inhibitors: %w", err)
	}
	return blocking, nil
}

// listBlocking picks the inhibitors that block a shutdown from the list of all. Those of the
// mode delay can make that so long that the answer is not read, see maxMessage.
func (l *Logind) listBlocking(ctx context.Context) ([]Inhibitor, error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	var listed [][]any
	if err := l.call(ctx, logindPath, logindManager+".ListInhibitors", nil, &listed); err != nil {
		return nil, err
	}
	var blocking []Inhibitor
	for _, row := range listed {
		var i Inhibitor
		var what, mode string
		var uid uint32
		if err := store(row, &what, &i.Who, &i.Why, &mode, &uid, &i.PID); err != nil {
			return nil, err
		}
		if (mode == "block" || mode == "block-weak") && hasShutdown(what) {
			i.Who, i.Why, i.User = safetext.Clean(i.Who), safetext.Clean(i.Why), userName(uid)
			blocking = append(blocking, i)
		}
	}
	return blocking, nil
}

// blocked tells whether there is any inhibitor that Inhibitors returns. It
// spares the list: every local user may take thousands of inhibitors of the
// mode delay, with texts of any length.
func (l *Logind) blocked(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	strong, err := property[string](ctx, l, logindPath, logindManager, "BlockInhibited")
	if err != nil || hasShutdown(strong) {
		return err == nil, err
	}
	weak, err := property[string](ctx, l, logindPath, logindManager, "BlockWeakInhibited")
	if answered(err, errUnknownProperty) { // before systemd 257
		return false, nil
	}
	return hasShutdown(weak), err
}

// hasShutdown tells whether a list such as "shutdown:sleep" has it.
func hasShutdown(what string) bool { return slices.Contains(strings.Split(what, ":"), "shutdown") }

func userName(uid uint32) string {
	number := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(number); err == nil {
		return safetext.Clean(u.Username)
	}
	return number
}
