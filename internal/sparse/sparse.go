// Package sparse bounds what is logged about others, who may do something wrong as often as they like, and always a bit
// differently.
package sparse

import (
	"sync"
	"time"
)

const (
	// period is how long nothing more is logged about a key.
	period = time.Hour
	// keys is about how many keys something is logged in a minute.
	keys = 20
)

// Lines are the lines of a log about one kind of thing. The zero Lines are ready. They are safe for concurrent use.
type Lines struct {
	mu     sync.Mutex
	logged map[string]time.Time
	minute time.Time // since when count counts
	count  int
}

// Allow reports whether there may be a line about a key now: once an hour, and about 20 keys a minute.
func (l *Lines) Allow(key string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if now.Sub(l.minute) >= time.Minute {
		l.minute, l.count = now, 0
	}
	last, again := l.logged[key]
	if l.count >= keys || again && now.Sub(last) < period {
		return false
	}
	if len(l.logged) >= int(period/time.Minute)*keys || l.logged == nil {
		l.logged = map[string]time.Time{} // the oldest are an hour old
	}
	l.logged[key] = now
	l.count++
	return true
}
