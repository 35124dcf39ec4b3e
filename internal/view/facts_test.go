package view

import (
	"time"

	"github.com/locksmithd/locksmith/lock"
)

var noon = time.Date(2027, 1, 2, 12, 0, 0, 0, time.UTC)

func holding(id string, since time.Time) lock.HolderInfo {
	return lock.HolderInfo{ID: id, Record: lock.Record{Hostname: "web-" + id, Since: since, By: "locksmithd", Version: "4230.2.1"}}
}

func waiting(id string, since time.Time) lock.QueueEntry {
	return lock.QueueEntry{ID: id, Hostname: "web-" + id, Since: since, Version: "4230.2.1"}
}

// sick is a holder that is unwell after its reboot, and what it leaves in etcd.
func sick(id string, since time.Time, why string) (lock.HolderInfo, lock.UnwellHost) {
	h := holding(id, since.Add(-10*time.Minute))
	h.Record.OSVersion, h.Record.Phase, h.Record.PhaseSince, h.Record.PhaseWhy = "4152.2.0", lock.Unwell, since, why
	return h, lock.UnwellHost{ID: id, Hostname: h.Record.Hostname, BootID: "2", Version: h.Record.Version, Why: why, Since: since}
}

func overview(max int, holders []lock.HolderInfo, queue ...lock.QueueEntry) lock.Overview {
	o := lock.Overview{Exists: true, Holders: holders, Queue: queue}
	o.Semaphore = lock.Semaphore{Free: max - len(holders), Max: max}
	for _, h := range holders {
		o.Semaphore.Holders = append(o.Semaphore.Holders, h.ID)
	}
	return o
}
