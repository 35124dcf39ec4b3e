package etcdtest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"syscall"
)

// errAddressInUse says that another process was quicker to take an address.
var errAddressInUse = errors.New("address in use")

// randomHost is an address in 127.0.0.0/8 that is not 127.0.0.1, where
// everybody else is.
func randomHost() string {
	return fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(254), rand.IntN(256), 1+rand.IntN(254))
}

// listen takes a free port of host. It is below those that the kernel gives out
// by itself (ip_local_port_range, from 32768), so that nobody happens on it
// while its owner is down.
func listen(host string) (net.Listener, error) {
	for {
		l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(10000+rand.IntN(20000))))
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("find free port: %w", err)
		}
		return l, nil
	}
}

// freeAddress is a host:port that nobody listens on.
func freeAddress(host string) (string, error) {
	l, err := listen(host)
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// hostOf is the host of a host:port that listen made.
func hostOf(address string) string {
	host, _, _ := net.SplitHostPort(address)
	return host
}
