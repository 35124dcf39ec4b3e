package config

import (
	"errors"
	"net/url"
	"strings"

	"github.com/locksmithd/locksmith/fleetlock"
	"github.com/locksmithd/locksmith/internal/fleetclient"
	"github.com/locksmithd/locksmith/lock/etcd"
)

// The values of the setting for the id.
const (
	fleetLockAppID     = "app-specific"
	fleetLockMachineID = "machine-id"
)

// ownEndpoint is Config.OwnEndpoint.
func (in inputs) ownEndpoint(program Program) bool {
	endpoint := in.of(etcd.OptionEndpoint)
	return program == CLI && (endpoint.origin.Kind == FromFlag ||
		endpoint.origin.Kind == FromEnvironment && endpoint.origin.Name == endpoint.CLIVariable())
}

// fleetLock reports whether the slots are those of a FleetLock server.
func (in inputs) fleetLock(program Program) bool {
	return in[nameStrategy].value == string(StrategyFleetLock) && !in.ownEndpoint(program)
}

// fleetLockText returns the parser of a text for the FleetLock server, which a rule checks.
func fleetLockText(to func(*fleetclient.Config) *string) func(*parser, input) error {
	return func(p *parser, in input) error {
		*to(&p.FleetLock.Server) = in.value
		return nil
	}
}

func parseFleetLockURL(p *parser, in input) error {
	u, err := url.Parse(in.value)
	switch {
	case in.value == "":
		return in.refuse("it is missing: with %s=%s it has to be the URL of the server, such as https://reboots.example:8443", p.inputs[nameStrategy].Variable, StrategyFleetLock)
	case strings.Contains(in.value, "@"):
		return in.refuse("it has a user in it: use %s and %s", p.inputs[nameFleetLockUsername].Variable, p.inputs[nameFleetLockPasswordFile].Variable)
	case err == nil:
		p.FleetLock.Server.URL = u.String()
	default:
		p.FleetLock.Server.URL = in.value // the rule says what is wrong
	}
	return nil
}

func parseFleetLockID(p *parser, in input) error {
	switch in.value {
	case fleetLockAppID, fleetLockMachineID:
		p.FleetLock.MachineID = in.value == fleetLockMachineID
		return nil
	}
	return in.refuse("it does not say which id: write %s or %s", fleetLockAppID, fleetLockMachineID)
}

// ofFleetLock returns the setting for an option.
func (in inputs) ofFleetLock(o fleetclient.Option) input {
	for _, i := range in {
		if i.Variable == string(o) {
			return i
		}
	}
	return input{}
}

// checkFleetLock checks what makes up the lock of a FleetLock server.
func checkFleetLock(p *parser) error {
	var errs []error
	if p.Group != "" && (fleetlock.Params{ID: "any", Group: p.Group}).Check() != nil {
		errs = append(errs, p.inputs["group"].refuse("FleetLock does not allow it: write at most 256 letters a-z and A-Z, digits, dots and hyphens"))
	}
	server := p.FleetLock.Server
	if server.URL == "" { // what is wrong with it was said
		return errors.Join(errs...)
	}
	for _, pair := range [][2]string{{nameFleetLockCertFile, nameFleetLockKeyFile}, {nameFleetLockUsername, nameFleetLockPasswordFile}} {
		a, b := p.inputs[pair[0]], p.inputs[pair[1]]
		if a.value == "" {
			a, b = b, a
		}
		switch {
		case a.value == "" || b.value != "":
		case b.withheld != "" && pair[0] == nameFleetLockUsername:
			errs = append(errs, a.elsewhereOnly("password", b.withheld, b))
		case b.withheld != "":
			errs = append(errs, a.elsewhereOnly("key", b.withheld, b))
		default:
			errs = append(errs, a.refuse("it is set without %s: set both or neither", b.Variable))
		}
	}
	if wrong := server.Validate(); wrong != nil {
		for _, err := range joined(wrong) {
			var option *fleetclient.OptionError
			if errors.As(err, &option) {
				err = p.inputs.ofFleetLock(option.Option).refuse("%w", option.Err)
			}
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// joined returns the errors that an error joins.
func joined(err error) []error {
	if several, ok := err.(interface{ Unwrap() []error }); ok {
		return several.Unwrap()
	}
	return []error{err}
}

// elsewhereOnly is elsewhere for a setting without a flag.
func (in input) elsewhereOnly(secret, from string, file input) error {
	return in.refuse("locksmithd has the %s from %s, and locksmithctl does not read it there: write it into a file that only root can read, and set %s",
		secret, from, file.Variable)
}

// warnOfFleetLockFiles warns of files that are not used, of secrets that other users can see, and of settings for the
// lock in etcd.
func warnOfFleetLockFiles(p *parser) error {
	for _, name := range []string{nameFleetLockCAFile, nameFleetLockCertFile, nameFleetLockKeyFile} {
		if in := p.inputs[name]; in.value != "" && !p.FleetLock.Server.Encrypted() {
			p.warn("%s: it has no effect, because the connection to %s is not encrypted: write https there", in.subject(), p.inputs[nameFleetLockURL].shown())
		}
	}
	if in := p.inputs[nameFleetLockPasswordFile]; in.value != "" && !p.FleetLock.Server.Encrypted() {
		p.warn("%s: everybody on the way to %s can read the password: write https there", in.subject(), p.inputs[nameFleetLockURL].shown())
	}
	for _, name := range []string{nameFleetLockKeyFile, nameFleetLockPasswordFile} {
		if in := p.inputs[name]; in.value != "" {
			p.warnOfReaders(in, in.value)
		}
	}
	for _, name := range []string{nameMax, nameLockTTL} {
		if in := p.inputs[name]; in.origin.Kind != FromDefault {
			p.warn("%s: it has no effect with %s, because the server decides that", in.subject(), StrategyFleetLock)
		}
	}
	return nil
}

// warnOfUnusedFleetLock warns of settings for a FleetLock server that nobody asks.
func warnOfUnusedFleetLock(p *parser) error {
	if p.inputs[nameStrategy].value == string(StrategyFleetLock) {
		return nil
	}
	for _, d := range definitions {
		if in := p.inputs[d.Name]; d.Part == partFleetLock && in.value != "" && in.origin.Kind != FromDefault {
			p.warn("%s: it has no effect unless %s is %s", in.subject(), p.inputs[nameStrategy].Variable, StrategyFleetLock)
		}
	}
	return nil
}

// holdWithFleetLock has an unwell host keep its slot where it cannot pause others.
func holdWithFleetLock(p *parser) error {
	if p.inputs[nameStrategy].value != string(StrategyFleetLock) || p.HealthFailure != HealthPause {
		return nil
	}
	p.HealthFailure = HealthHold
	if in := p.inputs[nameHealthFailure]; in.origin.Kind != FromDefault {
		p.warn("%s: with %s it acts as %s, because a FleetLock server does not let a host pause others", in.subject(), StrategyFleetLock, HealthHold)
	}
	return nil
}
