// Command updateengine stands in for update_engine on a host of the tests.
//
// It owns com.coreos.update1 on the system bus, answers GetStatus, and emits StatusUpdate. Its one argument is a
// file with an operation and a version, such as "UPDATE_STATUS_UPDATED_NEED_REBOOT 4081.2.0". It reads the file at
// every GetStatus and at SIGHUP, which also announces the status. Without the file it is idle, so that a file in
// /run is forgotten at a reboot, as update_engine forgets an update that the host has booted into.
package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/godbus/dbus/v5"
)

const (
	busName      = "com.coreos.update1"
	objectPath   = dbus.ObjectPath("/com/coreos/update1")
	managerName  = "com.coreos.update1.Manager"
	statusUpdate = managerName + ".StatusUpdate"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: updateengine STATUSFILE")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "updateengine:", err)
		os.Exit(1)
	}
}

func run(file string) error {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	conn, err := dbus.ConnectSystemBus()
	if err != nil {
		return fmt.Errorf("connect to the system bus: %w", err)
	}
	defer conn.Close()
	getStatus := func() (int64, float64, string, string, int64, *dbus.Error) {
		operation, version, err := read(file)
		if err != nil {
			return 0, 0, "", "", 0, dbus.MakeFailedError(err)
		}
		return 0, 0, operation, version, 0, nil
	}
	if err := conn.ExportMethodTable(map[string]any{"GetStatus": getStatus}, objectPath, managerName); err != nil {
		return fmt.Errorf("export %s: %w", objectPath, err)
	}
	reply, err := conn.RequestName(busName, dbus.NameFlagDoNotQueue)
	if err != nil {
		return fmt.Errorf("take the name %s: %w", busName, err)
	}
	if reply != dbus.RequestNameReplyPrimaryOwner {
		return fmt.Errorf("take the name %s: %s", busName, reply)
	}
	for {
		select {
		case <-hangup:
		case <-conn.Context().Done():
			return errors.New("the bus went away")
		}
		operation, version, err := read(file)
		if err != nil {
			return err
		}
		if err := conn.Emit(objectPath, statusUpdate, int64(0), float64(0), operation, version, int64(0)); err != nil {
			return fmt.Errorf("emit %s: %w", statusUpdate, err)
		}
	}
}

func read(file string) (operation, version string, err error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return "UPDATE_STATUS_IDLE", "", nil
	}
	if err != nil {
		return "", "", fmt.Errorf("read status: %w", err)
	}
	operation, version, _ = strings.Cut(strings.TrimSpace(string(data)), " ")
	return operation, version, nil
}
