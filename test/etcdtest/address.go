package etcdtest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"syscall"
)

// errAddressInUse means that another process has taken an address first.
var errAddressInUse = errors.New("address in use")

// RandomHost returns an address in 127.0.0.0/8 other than 127.0.0.1, which all other programs use.
func RandomHost() string {
	return fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(254), rand.IntN(256), 1+rand.IntN(254))
}

// listen takes a free port of host, below the range from which the kernel assigns ports (ip_local_port_range, from
// 32768), so that no other process gets it while its owner is down.
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

// FreeAddress returns a host:port on which nothing listens; host is one of RandomHost. The server that gets the address
// keeps it over restarts, but another process may listen there first.
func FreeAddress(host string) (string, error) {
	l, err := listen(host)
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// hostOf returns the host of a host:port from listen.
func hostOf(address string) string {
	host, _, _ := net.SplitHostPort(address)
	return host
}
