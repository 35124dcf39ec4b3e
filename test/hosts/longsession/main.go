// Command longsession makes logind's answer about the session that it runs in too long to read, until it is ended.
//
// It gives the session a very long display name. Any user can do that.
package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/godbus/dbus/v5"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("the session has a long display")
	select {} // logind resets the display when the connection ends
}

func run() error {
	conn, err := dbus.ConnectSystemBus()
	if err != nil {
		return err
	}
	const name, session = "org.freedesktop.login1", "org.freedesktop.login1.Session."
	var path dbus.ObjectPath
	if err := conn.Object(name, "/org/freedesktop/login1").Call("org.freedesktop.login1.Manager.GetSessionByPID", 0, uint32(0)).Store(&path); err != nil {
		return err
	}
	object := conn.Object(name, path)
	for _, call := range []struct {
		method   string
		argument any
	}{{"TakeControl", false}, {"SetType", "x11"}, {"SetDisplay", strings.Repeat("x", 300<<10)}} {
		if err := object.Call(session+call.method, 0, call.argument).Err; err != nil {
			return fmt.Errorf("%s: %w", call.method, err)
		}
	}
	return nil
}
