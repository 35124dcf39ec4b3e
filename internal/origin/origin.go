// Package origin says what counts as one client where a server bounds what each of them may take.
package origin

import "net/netip"

// Of returns the origin of an address with a port or without: the address itself with IPv4, and the network of 64 bits
// with IPv6, because each host of such a network may use any address in it. A text that is not an address is an origin
// of its own.
func Of(address string) string {
	ip, err := netip.ParseAddr(address)
	if port, withPort := netip.ParseAddrPort(address); withPort == nil {
		ip, err = port.Addr(), nil
	}
	if err != nil {
		return address
	}
	if ip = ip.Unmap().WithZone(""); ip.Is4() {
		return ip.String()
	}
	network, _ := ip.Prefix(64) // it fails for IPv4 only
	return network.String()
}
