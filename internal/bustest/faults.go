package bustest

import (
	"sync"

	"github.com/godbus/dbus/v5"
)

// Faults is what a peer does wrong, by method. A method without a fault is
// answered. It is safe for concurrent use.
type Faults struct {
	mu     sync.Mutex
	faults map[string]*fault
}

type fault struct {
	err    *dbus.Error   // answered with; nil for no answer
	hung   func()        // called when a call gets no answer
	healed chan struct{} // closed when the fault is over
}

// Refuse makes a method answer with an error, for example
// "org.freedesktop.DBus.Error.AccessDenied".
func (f *Faults) Refuse(method, name, message string) {
	f.set(method, &fault{err: dbus.NewError(name, []any{message}), healed: make(chan struct{})})
}

// Hang makes a method give no answer until Heal. The channel is closed once there
// is a call that waits for one.
func (f *Faults) Hang(method string) <-chan struct{} {
	hung := make(chan struct{})
	f.set(method, &fault{hung: sync.OnceFunc(func() { close(hung) }), healed: make(chan struct{})})
	return hung
}

// Heal makes a method work again. Calls that hung are now answered.
func (f *Faults) Heal(method string) { f.set(method, nil) }

func (f *Faults) set(method string, new *fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if old := f.faults[method]; old != nil {
		close(old.healed)
	}
	if f.faults == nil {
		f.faults = make(map[string]*fault)
	}
	f.faults[method] = new
}

// faulty tells whether a method has a fault now.
func (f *Faults) faulty(method string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.faults[method] != nil
}

// suffer returns what a call has to answer with, and nil if it may go on.
func (f *Faults) suffer(method string) *dbus.Error {
	for {
		f.mu.Lock()
		current := f.faults[method]
		f.mu.Unlock()
		if current == nil {
			return nil
		}
		if current.err != nil {
			return current.err
		}
		current.hung()
		<-current.healed
	}
}

// healAll lets every call that hangs end.
func (f *Faults) healAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for method, old := range f.faults {
		if old != nil {
			close(old.healed)
		}
		delete(f.faults, method)
	}
}
