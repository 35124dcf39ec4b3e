package fleetlock

import "time"

// For the tests outside of the package.
var (
	Codes   = codes
	Outcome = new(Client).outcome
)

// SetBodyTime sets how long the body of a request may take.
func (h *Handler) SetBodyTime(d time.Duration) { h.bodyTime = d }
