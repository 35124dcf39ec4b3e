// Package node is what a host does to its own Kubernetes node around a reboot: it asks whether the node may go, drains
// it, and takes it back.
//
// It guarantees:
//   - the rights of a kubelet are enough for everything but Settings.MinReady;
//   - a cordon that somebody else made stays as it is: what the package has changed and is to change back is
//     remembered in annotations of the node, in the same request as the change;
//   - every request has a time limit, and an answer that did not come is never taken for one;
//   - every error is one line.
//
// It does not reboot, and keeps nothing on the host's disk: a process that is killed leaves the annotations, by which
// the next one takes the node back.
package node
