package lock

import "time"

// SetQueueLease makes a place in the queue outlive its host by d only.
func (l *Lock) SetQueueLease(d time.Duration) { l.queueLease = d }
