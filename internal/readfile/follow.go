package readfile

import (
	"sync"
	"time"
)

const (
	// followEvery is how long Followed.Current returns the same content without a look at the files.
	followEvery = time.Second
	// maxNews is how many messages about the same state of the files are remembered. All are forgotten when there are
	// more.
	maxNews = 100
)

// Followed is what a program has made of files, which it reads again when they change. Content that cannot be used does
// not replace the one before. Its methods may be called concurrently.
type Followed[T any] struct {
	paths []string

	mu      sync.Mutex
	content T
	looked  time.Time
	stamp   string // of the files as they were last read
	failed  bool   // what was read then is not used
	said    map[string]bool
}

// Reader reads the files of a [Followed], and logs what comes of it. was is the content before, which stays in use if
// there is an error. news reports whether a message has not been logged yet, since the files have changed or somebody
// has asked for them to be read: files that cannot be used are read again and again.
type Reader[T any] func(was T, news func(message string) bool) (T, error)

// Follow notes the state of the files, or folders, at the paths. Call it right before they are first read, and
// [Followed.Use] afterwards.
func Follow[T any](paths ...string) *Followed[T] {
	return &Followed[T]{paths: paths, looked: time.Now(), stamp: Stamp(paths...)}
}

// Use sets the content.
func (f *Followed[T]) Use(content T) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.content = content
}

// Content returns the content, without a look at the files.
func (f *Followed[T]) Content() T {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.content
}

// Current returns the content of the files as they were a second ago at most. It reads them if they have changed, and
// if they could not be used, because that may have been so only for a moment.
func (f *Followed[T]) Current(read Reader[T]) T {
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Since(f.looked) >= followEvery {
		f.look(false, read)
	}
	return f.content
}

// Reload reads the files.
func (f *Followed[T]) Reload(read Reader[T]) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.look(true, read)
}

func (f *Followed[T]) look(asked bool, read Reader[T]) {
	f.looked = time.Now()
	stamp := Stamp(f.paths...)
	switch {
	case asked || stamp != f.stamp:
		f.said = nil
	case !f.failed:
		return
	}
	f.stamp = stamp
	content, err := read(f.content, f.news)
	if f.failed = err != nil; !f.failed {
		f.content = content
	}
}

func (f *Followed[T]) news(message string) bool {
	if f.said[message] {
		return false
	}
	if f.said == nil || len(f.said) >= maxNews {
		f.said = map[string]bool{}
	}
	f.said[message] = true
	return true
}
