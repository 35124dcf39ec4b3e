// Package node takes a host's own Kubernetes node through a reboot: it asks whether the node may reboot, drains it, and
// takes it back.
//
// It guarantees:
//   - the rights of a kubelet are enough for everything but Settings.MinReady and labels that NodeRestriction refuses;
//   - a cordon that somebody else has made stays: the package records its own changes in annotations of the node, in
//     the same request as the change;
//   - every request has a time limit, and a request without an answer counts as neither done nor refused;
//   - every error is one line.
//
// It does not reboot, and keeps no file on the host: after a process was killed, the next one finds the annotations and
// takes the node back.
package node
