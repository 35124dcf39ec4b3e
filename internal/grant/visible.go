package grant

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
)

// Credentials are what somebody has given who wants to see groups.
type Credentials struct {
	Address        string // without the port
	User, Password string
	Given          bool // there is a user and a password, whatever they are
}

// CredentialsOf returns what a request has: who sent it, and the name and password of Basic authentication.
func CredentialsOf(r *http.Request) (c Credentials) {
	c.User, c.Password, c.Given = r.BasicAuth()
	c.Address = r.RemoteAddr
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		c.Address = host
	}
	return c
}

// ErrUnauthorized says that somebody may see no group.
var ErrUnauthorized = errors.New("a user and a password are needed, those of one of the groups")

// Visible returns which groups somebody may see: those that have no users, and those of which it is a user. groups are by
// the names that clients give. check reports for each of several users whether the password is right; an error means that
// this is not known. The error is ErrUnauthorized, also where the password is wrong, or that of check.
func Visible(
	ctx context.Context, groups map[string]Group, c Credentials,
	check func(ctx context.Context, address, user, password string, of []Users) ([]bool, error),
) (map[string]Group, error) {
	visible := map[string]Group{}
	var names []string
	var users []Users
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		if g := groups[name]; g.Users == nil {
			visible[name] = g
		} else {
			names, users = append(names, name), append(users, g.Users)
		}
	}
	switch {
	case len(names) == 0, !c.Given && len(visible) > 0:
		return visible, nil
	case !c.Given:
		return nil, ErrUnauthorized
	}
	right, err := check(ctx, c.Address, c.User, c.Password, users)
	if err != nil {
		return nil, fmt.Errorf("check a password: %w", err)
	}
	if !slices.Contains(right, true) {
		return nil, ErrUnauthorized
	}
	for i, name := range names {
		if right[i] {
			visible[name] = groups[name]
		}
	}
	return visible, nil
}
