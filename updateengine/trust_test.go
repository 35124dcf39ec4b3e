package updateengine

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/locksmithd/locksmith/test/bustest"
	"github.com/locksmithd/locksmith/test/must"
)

func TestAnyLocalUserCanEmitTheSignalButIsNotBelieved(t *testing.T) {
	root := userDatabase(t, map[string]string{
		"etc/group":  "root:x:0:\nwheel:x:7777:core\n",
		"etc/passwd": "root:x:0:0::/root:/bin/sh\neve:x:65534:65534::/:/bin/sh\n",
	})
	h := newHost(t, Trust{Groups: []string{"wheel", "sudo"}, Root: root})
	engine := bustest.For(t).Engine(h.bus)
	e := h.watch()
	e.expect(Engine, Idle)
	stranger := bustest.For(t).Stranger(h.bus, bustest.Nobody, bustest.Nobody, 7776, 7778)
	must.Do(t, stranger.EmitStatus(needReboot))
	must.Do(t, stranger.SendStatus(h.conn.Names()[0], needReboot))
	// They cause no event: the next event is that of the next signal.
	must.Do(t, engine.Announce(bustest.Status{Operation: Downloading}))
	e.expect(Engine, Downloading)
	h.log.expect(t, "WARN", `user \"eve\" (uid 65534)`, fmt.Sprintf("(pid %d)", stranger.PID()), "process", "wheel")
}

func TestMemberOfAConfiguredGroupIsBelieved(t *testing.T) {
	files := map[string]string{"etc/group": "root:x:0:\n", "usr/share/baselayout/group": "sudo:x:7777:\n"}
	for _, test := range []struct {
		name   string
		gid    uint32
		groups []uint32
	}{
		{"primary group", 7777, nil},
		{"supplementary group", bustest.Nobody, []uint32{7776, 7777}},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHost(t, Trust{Groups: []string{"wheel", "sudo"}, Root: userDatabase(t, files)})
			bustest.For(t).Engine(h.bus)
			e := h.watch()
			e.expect(Engine, Idle)
			stranger := bustest.For(t).Stranger(h.bus, bustest.Nobody, test.gid, test.groups...)
			must.Do(t, stranger.EmitStatus(needReboot))
			got := e.expect(Requester, NeedReboot)
			if want := `user "?" (uid 65534), process "`; !strings.HasPrefix(got.By, want) {
				t.Errorf("by %s, want %s...", got.By, want)
			}
		})
	}
}

// Events keep the order of their signals, although one sender has to be identified and the other has not.
func TestRequestersAndUpdateEngineKeepTheirOrder(t *testing.T) {
	h := newHost(t, Trust{})
	engine := bustest.For(t).Engine(h.bus)
	e := h.watch()
	e.expect(Engine, Idle)
	requester := bustest.For(t).Connect(h.bus)
	for range 200 {
		must.Do(t, requester.Emit(bustest.EnginePath, bustest.EngineSignal, int64(0), 0.0, NeedReboot, "", int64(0)))
		must.Do(t, requester.BusObject().Call("org.freedesktop.DBus.GetId", 0).Err)
		must.Do(t, engine.Announce(idle))
		e.expect(Requester, NeedReboot)
		e.expect(Engine, Idle)
	}
}

func TestSenderThatHasLeftIsNotBelieved(t *testing.T) {
	h := newHost(t, Trust{})
	requester := bustest.For(t).Connect(h.bus) // of a user that is believed
	name := requester.Names()[0]
	must.Do(t, requester.Close())
	w := newWatch(t.Context(), h.client)
	signals, out := make(chan *dbus.Signal), make(chan Event)
	go w.run(signals, out)
	signals <- &dbus.Signal{Sender: name, Path: objectPath, Name: signalName, Body: needRebootBody(), Sequence: 1}
	h.log.expect(t, "WARN", "left the bus", "locksmithctl send-need-reboot", name)
	select {
	case event := <-out:
		t.Errorf("got %+v", event)
	default:
	}
}

func needRebootBody() []any { return []any{int64(0), 0.0, NeedReboot, "", int64(0)} }

func TestWhoIsBelieved(t *testing.T) {
	root := userDatabase(t, map[string]string{
		"etc/passwd":                  "root:x:0:0::/:/bin/sh\ncore:x:500:500::/:/bin/sh\nbroken\nann:x:501:100::/:/bin/sh\n",
		"usr/share/baselayout/passwd": "core:x:999:10::/:/bin/sh\nbase:x:600:10::/:/bin/sh\n",
		"etc/group":                   "root:x:0:\n# comment\nsudo:x:27:core,ann\ncore:x:500:\nodd:x:nan:core\nshort:x\nempty:x:77:\n",
		"usr/share/baselayout/group":  "sudo:x:28:base\nwheel:x:10:root,core\n",
		"usr/lib/group":               "adm:x:4:ann\n",
	})
	me := uint32(os.Geteuid())
	for _, test := range []struct {
		name   string
		c      credentials
		groups string // space separated
		want   bool
	}{
		{"root", credentials{uid: 0}, "", true},
		{"the daemon's own user", credentials{uid: me}, "", true},
		{"another user, no groups configured", credentials{uid: 500, gids: []uint32{27}, gidsKnown: true}, "", false},
		{"reported group", credentials{uid: 4000, gids: []uint32{1, 27}, gidsKnown: true}, "sudo", true},
		{"reported group of the distribution's file", credentials{uid: 4000, gids: []uint32{10}, gidsKnown: true}, "sudo wheel", true},
		{"the first file decides what a group is", credentials{uid: 4000, gids: []uint32{28}, gidsKnown: true}, "sudo", false},
		{"another group", credentials{uid: 500, gids: []uint32{500}, gidsKnown: true}, "sudo wheel", false},
		{"reported groups count, not the database", credentials{uid: 500, gids: nil, gidsKnown: true}, "sudo", false},
		{"group 0 is not root", credentials{uid: 500, gids: []uint32{0}, gidsKnown: true}, "sudo", false},
		{"no such group", credentials{uid: 500, gids: []uint32{0, 27}, gidsKnown: true}, "nosuch", false},
		{"group without a number", credentials{uid: 500, gids: []uint32{0}, gidsKnown: true}, "odd", false},
		{"database: member", credentials{uid: 500}, "wheel", true},
		{"database: member in another file", credentials{uid: 501}, "adm", true},
		{"database: primary group", credentials{uid: 600}, "wheel", true},
		{"database: not a member", credentials{uid: 501}, "wheel", false},
		{"database: the first file decides who a user is", credentials{uid: 500}, "core", true},
		{"database: unknown user", credentials{uid: 4000}, "sudo wheel adm empty", false},
	} {
		got, err := Trust{Groups: strings.Fields(test.groups), Root: root}.accepts(test.c)
		if err != nil || got != test.want {
			t.Errorf("%s: %v, %v, want %v", test.name, got, err, test.want)
		}
	}
}

func TestOnlyRootIsBelievedWithoutAUserDatabase(t *testing.T) {
	for _, file := range []string{"etc/group/a-directory", "etc"} {
		root := userDatabase(t, map[string]string{file: ""})
		trust := Trust{Groups: []string{"wheel"}, Root: root}
		if ok, err := trust.accepts(credentials{uid: 500, gids: []uint32{10}, gidsKnown: true}); ok || err == nil {
			t.Errorf("%s: another user: %v, %v, want an error", file, ok, err)
		}
		if ok, err := trust.accepts(credentials{uid: 0}); !ok || err != nil {
			t.Errorf("%s: root: %v, %v", file, ok, err)
		}
	}
}
