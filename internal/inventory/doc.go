// Package inventory is what the hosts of a fleet say of themselves: each keeps a record in the store of the lock, where
// operators read those of all hosts.
//
// A record is written when something about its host has changed, has no lease and is never refreshed, so that an idle
// fleet costs the store nothing. It is for people: nobody decides by it who may reboot, and whoever holds a slot or
// waits for one is asked of the lock, not of the record.
//
// It guarantees that whatever other clients have written is bounded and safe to show once it has been read, and that a
// record that cannot be understood is shown as one.
package inventory
