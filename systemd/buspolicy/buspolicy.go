// Package buspolicy has the policy file of locksmithd for the message bus: who may own its name, and what others may call.
package buspolicy

import _ "embed" // for the file

// Name is the name of the file, as packages install it into /usr/share/dbus-1/system.d, see dbus-daemon(1).
const Name = "io.github.locksmithd.Locksmith1.conf"

// Content is the content of the file.
//
//go:embed io.github.locksmithd.Locksmith1.conf
var Content string
