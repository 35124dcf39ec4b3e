package etcdtest

import "github.com/locksmithd/locksmith/test/race"

// Versions lists every version, for tests that range over them. Under the race detector it lists one, because the
// etcd version makes no difference to goroutines.
func Versions() []Version {
	if race.Enabled {
		return []Version{Newest}
	}
	return []Version{V37, V36, V35, V34}
}

// OldestAndNewest lists two versions, for long tests that show nothing that depends on the versions between. Under
// the race detector it lists one.
func OldestAndNewest() []Version {
	if race.Enabled {
		return []Version{Newest}
	}
	return []Version{Newest, Oldest}
}
