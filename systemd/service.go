package systemd

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/godbus/dbus/v5"

	"github.com/locksmithd/locksmith/internal/readfile"
)

// Service is how systemd starts a service, as far as its environment and arguments are
// concerned; see systemd.exec(5) and systemd.service(5).
type Service struct {
	// Masked says that nothing starts it; the rest is unset then.
	Masked bool
	// ManagerEnvironment has entries NAME=VALUE that every service gets.
	ManagerEnvironment []string
	// PassEnvironment are names of variables that it gets from the environment that systemd itself
	// was started with, which only root can read.
	PassEnvironment []string
	// Environment has entries NAME=VALUE, a name once.
	Environment []string
	// EnvironmentFiles override Environment, a later one those before it.
	EnvironmentFiles []EnvironmentFile
	// UnsetEnvironment has names, and entries NAME=VALUE, of what is taken out in the end.
	UnsetEnvironment []string
	// Command are the arguments of ExecStart=, the program first. $NAME in them stands for a variable.
	Command []string

	origins     map[string]string // of a variable, of the command as ""
	credentials map[string]string // their origins
}

// EnvironmentFile is a pattern of paths, see glob(7).
type EnvironmentFile struct {
	Path     string
	Optional bool // it may be missing or broken
}

// Origin says which unit file sets a variable of Environment: "drop-in 10-etcd.conf" or "unit NAME".
// With an empty name it is about Command.
func (s *Service) Origin(variable string) string { return s.origins[variable] }

// CredentialOrigin says which unit file hands a credential to the service, as far as unit files can be
// read; "" if none.
func (s *Service) CredentialOrigin(name string) string { return s.credentials[name] }

// LoadedService asks systemd how it starts a service. It returns nil if there is no such service. Anybody
// may ask. systemd does not say which file something is from: for that the files are looked at as they are
// now, and those that cannot be read say nothing.
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
	for i, p := range properties { // all at once: one after another takes several times as long
		asked.Go(func() {
			if err := managerProperty(ctx, conn, p.path, p.iface, p.name, p.to); err != nil {
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
	s.origins, s.credentials = written.origins, written.credentials
	return &s, nil
}
