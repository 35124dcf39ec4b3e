package etcd

import "time"

// SetProbeTimeout sets how long every search for the cause of a failure may take.
func SetProbeTimeout(d time.Duration) { probeTimeout = d }
