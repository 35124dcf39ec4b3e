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

// listTimeout bounds reading all sessions, and each of the two steps of reading inhibitors. It is shorter
// than callTimeout because users can make these answers long: the daemon asks for both within one check,
// and must have time left for the rest of it.
const listTimeout = 4 * time.Second

// Inhibitor is a program's request not to shut the host down, see systemd-inhibit(1).
type Inhibitor struct {
	Who  string // the program, in its own words
	Why  string // its reason
	User string // login name of its user, or the user id if it has no name
	PID  uint32 // the process that holds it
}

// Inhibitors returns the inhibitors that block a shutdown: those of mode block, and since systemd 257
// those of the weaker mode block-weak. Before 257 there is only block, and it means what block-weak
// means now: root may shut down in spite of it. Inhibitors of mode delay are left out: logind handles
// them, by waiting some seconds before it goes on.
//
// If logind says that a shutdown is blocked, and its list cannot be read, the result is one inhibitor of
// an unknown user, whose reason says so.
func (l *Logind) Inhibitors(ctx context.Context) ([]Inhibitor, error) {
	blocked, err := l.blocked(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask logind what is inhibited: %w", err)
	}
	if !blocked {
		return nil, nil
	}
	blocking, err := l.listBlocking(ctx)
	// After a time-out or an error answer the holder is unknown. A lost connection, a malformed answer and an
	// ended context are errors of this call.
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

// listBlocking picks the inhibitors that block a shutdown from the list of all. Those of mode delay can
// make the list longer than maxMessage; then it is not read.
func (l *Logind) listBlocking(ctx context.Context) ([]Inhibitor, error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	var listed [][]any
	if err := l.call(ctx, "ListInhibitors", nil, &listed); err != nil {
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

// blocked reports whether any inhibitor blocks a shutdown. It does not read the list: every local user
// may take thousands of inhibitors of mode delay, with texts of any length.
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

// hasShutdown reports whether a list such as "shutdown:sleep" contains shutdown.
func hasShutdown(what string) bool { return slices.Contains(strings.Split(what, ":"), "shutdown") }

func userName(uid uint32) string {
	number := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(number); err == nil {
		return safetext.Clean(u.Username)
	}
	return number
}
