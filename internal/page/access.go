package page

import (
	"errors"
	"net/http"

	"github.com/locksmithd/locksmith/fleetlock"
	"github.com/locksmithd/locksmith/internal/grant"
	"github.com/locksmithd/locksmith/internal/listen"
	"github.com/locksmithd/locksmith/internal/safetext"
)

// access is what a client may see.
type access struct {
	user   string
	groups map[string]string // the name that clients give, by the group of the lock
	locked int               // how many groups it does not see, because they have users
}

// admit returns what a client may see.
func (h *Handler) admit(r *http.Request) (*access, error) {
	if name := listen.StrangeHost(r); name != "" {
		return nil, h.reject(r, &failure{http.StatusForbidden, fleetlock.KindForbidden, "this server is not called " + safetext.Clean(name) +
			" here: open the page by its address, such as http://127.0.0.1:3333/; a proxy before it has to send that as Host"})
	}
	served := h.Groups()
	c := grant.CredentialsOf(r)
	visible, err := grant.Visible(r.Context(), served, c, h.Check)
	switch {
	case r.Context().Err() != nil:
		return nil, r.Context().Err()
	case errors.Is(err, grant.ErrUnauthorized):
		return nil, h.reject(r, unauthorized(err.Error()))
	case err != nil:
		return nil, h.reject(r, &failure{http.StatusServiceUnavailable, fleetlock.KindUnavailable, err.Error()})
	}
	a := &access{groups: map[string]string{}, locked: len(served) - len(visible)}
	for name, g := range visible {
		a.groups[g.Lock] = name
		if g.Users != nil {
			a.user = c.User
		}
	}
	return a, nil
}
