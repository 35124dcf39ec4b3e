//go:build race

package etcdtest

// Versions lists one version under the race detector: which etcd answers is all the same
// to goroutines of ours.
func Versions() []Version { return []Version{Newest} }
