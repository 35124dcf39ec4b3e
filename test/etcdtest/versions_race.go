//go:build race

package etcdtest

// Versions lists one version under the race detector: the version of etcd makes no
// difference to our goroutines.
func Versions() []Version { return []Version{Newest} }

// OldestAndNewest is the newest alone, too.
func OldestAndNewest() []Version { return []Version{Newest} }
