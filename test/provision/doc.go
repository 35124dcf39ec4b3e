// Package provision tests that a host gets the settings which the author of its configuration meant. It has no
// code of its own.
//
// Container Linux Configs, Butane files and Ignition configurations go through the real transpilers and Ignition's
// own parsers, which are built from the module in tools/provision. Their files and units are laid on the root of a
// host, and there locksmithctl prints the settings that are in force.
//
// Package hosts shows that a host provisioned by Ignition itself boots.
package provision
