//go:build !race

package etcdtest

// Versions lists every version, for tests that range over them.
func Versions() []Version { return []Version{Newest, Oldest} }
