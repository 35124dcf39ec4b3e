package systemd

import (
	"errors"
	"fmt"
	"net"

	"github.com/coreos/go-systemd/v22/activation"
)

// Sockets returns the listening sockets that the service manager has passed to this process, see sd_listen_fds(3); none
// if it has passed none. It may be called once.
func Sockets() ([]net.Listener, error) {
	passed, err := activation.Listeners()
	if err != nil {
		return nil, fmt.Errorf("take the sockets of the service manager: %w", err)
	}
	for _, l := range passed {
		if l == nil {
			return nil, errors.New("the service manager has passed a socket that does not listen for connections: set ListenStream= and Accept=no in the socket unit")
		}
	}
	return passed, nil
}
