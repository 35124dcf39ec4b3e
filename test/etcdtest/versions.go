//go:build !race

package etcdtest

// Versions lists every version, for tests that range over them.
func Versions() []Version { return []Version{V37, V36, V35, V34} }

// OldestAndNewest lists two versions, for long tests that show nothing that depends on the versions between.
func OldestAndNewest() []Version { return []Version{Newest, Oldest} }
