// Package hostbus has the state of this host's locksmithd as properties on the system bus: for the daemon, which exports
// them, and for those who read them, such as `locksmithctl status -host`.
//
// It guarantees that the names and types of the properties are those of the fields of [hostfacts.Host]. docs/dbus.md is
// about the same for those who build on it.
package hostbus

import (
	"reflect"

	"github.com/locksmithd/locksmith/internal/hostfacts"
	"github.com/locksmithd/locksmith/systemd"
)

// Object is where the properties are.
var Object = systemd.ObjectName{
	Bus:       "io.github.locksmithd.Locksmith1",
	Path:      "/io/github/locksmithd/Locksmith1",
	Interface: "io.github.locksmithd.Locksmith1.Host",
}

// Properties returns a state as it is exported: each field is a property.
func Properties(h hostfacts.Host) (all []systemd.Property) {
	v := reflect.ValueOf(h)
	for i := range v.NumField() {
		value := v.Field(i)
		if value.Kind() == reflect.Slice && value.IsNil() {
			value = reflect.MakeSlice(value.Type(), 0, 0)
		}
		all = append(all, systemd.Property{Name: v.Type().Field(i).Name, Value: value.Interface()})
	}
	return all
}
