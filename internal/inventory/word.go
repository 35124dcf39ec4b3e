package inventory

import "github.com/locksmithd/locksmith/internal/policy"

// WaitsFor says in a word what holds back a reboot that is needed, as [Host.WaitsFor] has it; "" for nothing.
func WaitsFor(s policy.Snapshot) string { return waitsFor(s) }
