package bustest

import (
	"sync"

	"github.com/godbus/dbus/v5"
)

// Faults makes methods of a peer fail. A method without a fault is answered. Faults is safe for concurrent use.
type Faults struct {
	mu     sync.Mutex
	faults map[string]*fault
}

type fault struct {
	err    *dbus.Error   // the answer; nil for none
	hung   func()        // called when a call gets no answer
	healed chan struct{} // closed when the fault is over
}

// Refuse makes a method answer with an error, for example
// "org.freedesktop.DBus.Error.AccessDenied".
func (f *Faults) Refuse(method, name, message string) {
	f.set(method, &fault{err: dbus.NewError(name, []any{message}), healed: make(chan struct{})})
}

// Hang makes a method give no answer until Heal. The channel is closed once a call waits for an answer.
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

// at returns the fault that a method has now; nil for none.
func (f *Faults) at(method string) *fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.faults[method]
}

// suffer returns the error for a call to a method, and nil if the call may go on.
func (f *Faults) suffer(method string) *dbus.Error {
	for {
		current := f.at(method)
		if current == nil {
			return nil
		}
		if err := current.suffer(); err != nil {
			return err
		}
	}
}

// suffer returns the error for a call, or nil once the fault of a call that hangs is healed.
func (f *fault) suffer() *dbus.Error {
	if f.err != nil {
		return f.err
	}
	f.hung()
	<-f.healed
	return nil
}

// healAll ends every fault.
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
