//go:build race

package etcdtest

// Versions lists one version under the race detector, because the etcd version makes no difference to goroutines.
func Versions() []Version { return []Version{Newest} }

// OldestAndNewest lists the newest version alone, for the same reason.
func OldestAndNewest() []Version { return []Version{Newest} }
