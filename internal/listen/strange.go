package listen

import (
	"net"
	"net/http"
	"net/netip"
)

// StrangeHost returns the name by which a request calls a server that only programs of its host reach without TLS, if that
// cannot be its name: the request may come from a page of somebody else, whose own name was made to lead here. "" means
// that the name is right.
func StrangeHost(r *http.Request) string {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if !ok || !local.IP.IsLoopback() || r.TLS != nil {
		return ""
	}
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if _, err := netip.ParseAddr(host); err == nil || host == "localhost" {
		return ""
	}
	return host
}
