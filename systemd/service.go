package systemd

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/godbus/dbus/v5"

	"github.com/locksmithd/locksmith/internal/readfile"
)

const (
	managerName      = "org.freedesktop.systemd1"
	managerPath      = dbus.ObjectPath("/org/freedesktop/systemd1")
	managerInterface = "org.freedesktop.systemd1.Manager"
)

// Service is the environment and the arguments with which systemd starts a service; see systemd.exec(5)
// and systemd.service(5).
type Service struct {
	// Masked means that nothing can start the service; the other fields are unset then.
	Masked bool
	// ManagerEnvironment has entries NAME=VALUE that every service gets.
	ManagerEnvironment []string
	// PassEnvironment has the names of variables that the service gets from the environment that
	// systemd itself was started with, which only root can read.
	PassEnvironment []string
	// Environment has entries NAME=VALUE, each name once.
	Environment []string
	// EnvironmentFiles override Environment, and a later one overrides an earlier one.
	EnvironmentFiles []EnvironmentFile
	// UnsetEnvironment has the names, and entries NAME=VALUE, that are removed in the end.
	UnsetEnvironment []string
	// Command is the program and the arguments of ExecStart=. $NAME in them stands for a variable.
	Command []string
	// Origins has the unit file that sets a variable of Environment, and that of Command under "". A file is called
	// "drop-in 10-etcd.conf" or "unit NAME".
	Origins map[string]string
	// Credentials has the unit file that passes a credential to the service, for those of readable files.
	Credentials map[string]string
}

// EnvironmentFile is a pattern of paths, see glob(7).
type EnvironmentFile struct {
	Path     string
	Optional bool // it may be missing or broken
}

// LoadedService asks systemd how it starts a service. It returns nil if there is no such service. Every user
// may ask. systemd does not tell which file a setting comes from: origins are read from the files as they are
// now, and unreadable files have none.
func LoadedService(ctx context.Context, conn *dbus.Conn, name string) (*Service, error) {
	s, err := loadedService(ctx, conn, name)
	if err != nil {
		return nil, fmt.Errorf("ask systemd how it starts %s: %w", name, err)
	}
	return s, nil
}

func loadedService(ctx context.Context, conn *dbus.Conn, name string) (*Service, error) {
	const unit, service = managerName + ".Unit", managerName + ".Service"
	var path dbus.ObjectPath
	if err := call(ctx, conn.Object(managerName, managerPath), managerInterface+".LoadUnit", []any{name}, &path); err != nil {
		return nil, err
	}
	var (
		loadState, fragment string
		dropIns             []string
		s                   Service
		files               [][]any
		commands            [][]any
	)
	properties := []struct {
		path        dbus.ObjectPath
		iface, name string
		to          any
	}{
		{path, unit, "LoadState", &loadState},
		{path, unit, "FragmentPath", &fragment},
		{path, unit, "DropInPaths", &dropIns},
		{managerPath, managerInterface, "Environment", &s.ManagerEnvironment},
		{path, service, "PassEnvironment", &s.PassEnvironment},
		{path, service, "Environment", &s.Environment},
		{path, service, "EnvironmentFiles", &files},
		{path, service, "UnsetEnvironment", &s.UnsetEnvironment},
		{path, service, "ExecStart", &commands},
	}
	errs := make([]error, len(properties))
	var asked sync.WaitGroup
	for i, p := range properties { // at the same time: one after another takes several times as long
		asked.Go(func() {
			if err := readProperty(ctx, conn.Object(managerName, p.path), p.iface, p.name, p.to); err != nil {
				errs[i] = fmt.Errorf("%s: %w", p.name, err)
			}
		})
	}
	asked.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	switch loadState {
	case "loaded":
	case "masked":
		return &Service{Masked: true}, nil
	default:
		return nil, nil
	}
	for _, file := range files {
		var f EnvironmentFile
		if err := store(file, &f.Path, &f.Optional); err != nil {
			return nil, fmt.Errorf("EnvironmentFiles: %w", err)
		}
		s.EnvironmentFiles = append(s.EnvironmentFiles, f)
	}
	if len(commands) > 0 {
		if len(commands[0]) < 2 {
			return nil, fmt.Errorf("ExecStart: the answer has %d parts", len(commands[0]))
		}
		if err := store(commands[0][1:2], &s.Command); err != nil {
			return nil, fmt.Errorf("ExecStart: %w", err)
		}
	}

	written := unitSettings{name: name}
	for _, file := range append([]string{fragment}, dropIns...) {
		if data, err := readfile.Read(file, maxUnitFile); err == nil {
			written.read(data, file)
		}
	}
	s.Origins, s.Credentials = written.Origins, written.Credentials
	return &s, nil
}

// Restarting reports whether systemd stops the unit of this process in order to start it again, as for
// "systemctl restart". It takes ten seconds at most.
func Restarting(ctx context.Context, conn *dbus.Conn) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var unit dbus.ObjectPath
	err := call(ctx, conn.Object(managerName, managerPath), managerInterface+".GetUnitByPID", []any{uint32(0)}, &unit) // 0 is the caller
	var job []any
	if err == nil {
		err = readProperty(ctx, conn.Object(managerName, unit), managerName+".Unit", "Job", &job)
	}
	var id uint32
	var path dbus.ObjectPath
	if err == nil {
		err = store(job, &id, &path)
	}
	var kind string
	if err == nil && id != 0 {
		err = readProperty(ctx, conn.Object(managerName, path), managerName+".Job", "JobType", &kind)
	}
	if err != nil {
		return false, fmt.Errorf("ask systemd whether it starts this unit again: %w", err)
	}
	return kind != "" && kind != "stop", nil
}
