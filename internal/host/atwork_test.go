package host

import (
	"context"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/systemd"
	"github.com/locksmithd/locksmith/test/bustest"
	"github.com/locksmithd/locksmith/test/must"
)

func TestAtWork(t *testing.T) {
	bus := bustest.For(t).Bus(bustest.System)
	fake := bustest.For(t).Logind(bus)
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", bus.Address())
	conn, err := systemd.ConnectSystemBus(t.Context())
	must.Do(t, err)
	t.Cleanup(func() { conn.Close() })
	logind := systemd.NewLogind(conn)
	root := t.TempDir()
	type asks = func(context.Context, string, *systemd.Logind) (policy.Local, error)
	want := func(what string, ask asks, want policy.Local, unclear ...string) {
		t.Helper()
		got, err := ask(t.Context(), root, logind)
		if must.Do(t, err); len(unclear) == 0 && got.Unclear != nil {
			t.Errorf("%s: it is unclear: %v", what, got.Unclear)
		}
		for _, text := range unclear {
			if got.Unclear == nil || !strings.Contains(got.Unclear.Error(), text) {
				t.Errorf("%s: what is unclear is %v, want %q", what, got.Unclear, text)
			}
		}
		if got.Unclear = nil; !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", what, got, want)
		}
	}

	for _, ask := range []asks{AtWork, OthersAtWork} {
		want("nobody", ask, policy.Local{})
	}

	at := time.Now().Add(time.Hour).Truncate(time.Second)
	must.Do(t, fake.SetSessions(
		bustest.Session{ID: "1", Name: "ann", TTY: "pts/0"},
		bustest.Session{ID: "2", Name: "bob"},
		bustest.Session{ID: "3", Name: "ann", TTY: "pts/1"},
		bustest.Session{ID: "4", Name: "root", TTY: "tty1"},
	))
	fake.SetOwnSession("4")
	fake.SetInhibitors(
		bustest.Inhibitor{Who: "backup", Why: "nightly run", Mode: "block", PID: uint32(os.Getpid())},
		bustest.Inhibitor{Who: "editor", Why: "files are open", Mode: "delay"},
	)
	fake.SetShutdown(bustest.Shutdown{Type: "poweroff", At: at, Message: "disks are swapped"})
	all := policy.Local{
		Users:      []string{"ann", "bob", "root"},
		Inhibitors: []policy.Inhibitor{{Who: "backup", Why: "nightly run", User: "root"}},
		Shutdown:   policy.Shutdown{Type: "poweroff", At: at, Message: "disks are swapped"},
	}
	write(t, root, HoldFile, "disks are swapped\n")
	all.Holds = []policy.Hold{{File: filepath.Join(root, HoldFile), Reason: "disks are swapped"}}
	want("all at once", AtWork, all)
	others := all
	others.Users = []string{"ann on pts/0", "bob", "ann on pts/1"}
	others.Inhibitors = []policy.Inhibitor{{Who: "backup", Why: "nightly run", User: "root", PID: uint32(os.Getpid())}}
	want("all at once, for others", OthersAtWork, others)

	// For the daemon, users that logind does not name are somebody: it has to tell them.
	fake.Refuse("ListSessions", "org.freedesktop.DBus.Error.AccessDenied", "not you")
	unnamed := all
	unnamed.Users = []string{"somebody"}
	want("no sessions", AtWork, unnamed, "list sessions")
	unnamed.Users, unnamed.Inhibitors = nil, others.Inhibitors
	want("no sessions, for others", OthersAtWork, unnamed, "list sessions")
	fake.Refuse("BlockInhibited", "org.freedesktop.DBus.Error.AccessDenied", "not you")
	want("no sessions and no inhibitors", OthersAtWork, policy.Local{Holds: all.Holds, Shutdown: all.Shutdown}, "list sessions", "; ", "inhibit")
	fake.Heal("ListSessions")
	want("no inhibitors", AtWork, policy.Local{Holds: all.Holds, Users: all.Users, Shutdown: all.Shutdown}, "inhibit")

	must.Do(t, fake.Leave())
	for _, ask := range []asks{AtWork, OthersAtWork} {
		if local, err := ask(t.Context(), root, logind); err == nil {
			t.Errorf("without logind it says %+v", local)
		}
	}
}
