package policy

// A Report is what the fleet is told of a host that holds a slot.
type Report struct {
	Phase   string // one of the phases below
	Why     string
	Pause   bool   // with Unwell: hosts that wait for the version of the slot wait until this host is well
	Again   bool   // the host reboots once more with the slot that it has held since before this boot
	Version string // with Again: that it reboots for
	NewOS   bool   // with Again: see Lock
	Reason  string // with Again: see Lock
}

// Phases of a slot.
const (
	Draining = "draining"  // what is hooked in before a reboot runs
	Leaving  = "rebooting" // the reboot comes next
	Checking = "checking"  // the host has booted, and has not been found well yet
	Unwell   = "unwell"    // it was not found well in time
	Delaying = "delaying"  // it is well, and keeps the slot for the release delay
)
