package page

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"

	"github.com/locksmithd/locksmith/fleetlock"
	"github.com/locksmithd/locksmith/internal/grant"
)

// access is what a client may see.
type access struct {
	user   string
	groups map[string]string // the name that clients give, by the group of the lock
	locked int               // how many groups it does not see, because they have users
}

// admit returns what a client may see: the groups that have no users, and those of which it is a user.
func (h *Handler) admit(r *http.Request) (*access, error) {
	if f := strange(r); f != nil {
		return nil, h.reject(r, f)
	}
	served := h.Groups()
	a := &access{groups: map[string]string{}}
	var names []string
	var users []grant.Users
	for _, name := range slices.Sorted(maps.Keys(served)) {
		if g := served[name]; g.Users == nil {
			a.groups[g.Lock] = name
		} else {
			names, users = append(names, name), append(users, g.Users)
		}
	}
	user, password, given := r.BasicAuth()
	switch {
	case len(names) == 0:
		return a, nil
	case !given && len(a.groups) == 0:
		return nil, h.reject(r, unauthorized("the page wants a user and a password, those of one of the groups"))
	case !given:
		a.locked = len(names)
		return a, nil
	}
	right, err := h.Check(r.Context(), addressOf(r), user, password, users)
	switch {
	case errors.Is(err, context.Canceled):
		return nil, err
	case err != nil:
		return nil, h.reject(r, &failure{http.StatusServiceUnavailable, fleetlock.KindUnavailable, err.Error()})
	case !slices.Contains(right, true):
		return nil, h.reject(r, unauthorized("user and password are not those of a user of one of the groups"))
	}
	for i, name := range names {
		if right[i] {
			a.groups[served[name].Lock], a.user = name, user
		} else {
			a.locked++
		}
	}
	return a, nil
}

// strange returns why a request seems to come from a page of somebody else, whose own host name was made to lead to
// this server. A server that only programs of its host reach, without TLS, has an address of that host as its name.
func strange(r *http.Request) *failure {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if !ok || !local.IP.IsLoopback() || r.TLS != nil {
		return nil
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if _, err := netip.ParseAddr(host); err == nil || host == "localhost" || host == "" {
		return nil
	}
	return &failure{http.StatusForbidden, fleetlock.KindForbidden, "the page is not called " + host +
		" here: open it by the address of the server, such as http://127.0.0.1:3333/; a proxy before it has to send that as Host"}
}

// Sorted returns groups in the order of the page: the default group first.
func Sorted(served map[string]grant.Group) []grant.Group {
	return slices.SortedFunc(maps.Values(served), func(a, b grant.Group) int { return cmp.Compare(a.Lock, b.Lock) })
}
