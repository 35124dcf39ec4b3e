package bustest

import (
	"github.com/godbus/dbus/v5"

	"github.com/locksmithd/locksmith/test/realpart"
)

// TB has the methods of *testing.T, *testing.B and *testing.F that the helpers need.
type TB interface {
	Helper()
	Cleanup(func())
	Fatal(args ...any)
	Skip(args ...any)
}

// T makes buses and peers for a test, and closes them when it ends.
type T struct{ tb TB }

// For returns the helpers for a test.
func For(tb TB) T { return T{tb} }

// Bus starts a bus.
func (t T) Bus(policy Policy) *Bus {
	t.tb.Helper()
	b, err := Start(policy)
	t.must(err)
	t.tb.Cleanup(func() { _ = b.Close() })
	return b
}

// Connect returns a connection to a bus.
func (t T) Connect(b *Bus) *dbus.Conn {
	t.tb.Helper()
	conn, err := b.Connect()
	t.must(err)
	t.tb.Cleanup(func() { conn.Close() })
	return conn
}

// Engine returns an update_engine that is on the bus.
func (t T) Engine(b *Bus) *Engine {
	t.tb.Helper()
	e := NewEngine(b)
	t.must(e.Appear())
	t.tb.Cleanup(func() { _ = e.Close() })
	return e
}

// Logind returns a logind that is on the bus.
func (t T) Logind(b *Bus) *Logind {
	t.tb.Helper()
	l := NewLogind(b)
	t.must(l.Appear())
	t.tb.Cleanup(func() { _ = l.Close() })
	return l
}

// Stranger starts a process of another user on the bus.
func (t T) Stranger(b *Bus, uid, gid uint32, groups ...uint32) *Stranger {
	t.tb.Helper()
	s, err := NewStranger(b, uid, gid, groups...)
	t.must(err)
	t.tb.Cleanup(func() { _ = s.Close() })
	return s
}

func (t T) must(err error) {
	t.tb.Helper()
	realpart.Must(t.tb, err)
}
