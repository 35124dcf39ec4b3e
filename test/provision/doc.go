// Package provision has no code, only tests: that a host means what the author of its
// configuration meant. Container Linux Configs, Butane files and Ignition configurations go through
// the real transpilers and Ignition's own parsers, built from the module in tools/provision, their
// files and units are laid on the root of a host, and there locksmithctl says which settings are in
// force.
//
// That such a host boots, provisioned by Ignition itself, is shown by package hosts.
package provision
