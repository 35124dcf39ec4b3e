// Package kubetest runs a real Kubernetes control plane for tests: etcd, kube-apiserver and kube-controller-manager, with
// stand-ins for the kubelets of its nodes and for the scheduler.
//
// A test starts a cluster, adds nodes, and gives the program that it tests the kubeconfig of a node's kubelet:
//
//	c := kubetest.MustStart(t)
//	n := c.MustAddNode(t, "node-1")
//	c.MustCreate(t, kubetest.ReplicaSet("default", "web", 3), kubetest.Budget("default", "web", "2"))
//	c.MustAwaitPods(t, "default", "three ready pods", kubetest.AllReady(3))
//	... run a program with n.Kubeconfig ...
//
// Code outside of tests uses Start, Close, and the methods that return errors. Join and Kubelet make real hosts nodes.
// The commands in the folders cluster and kubelet do the same for tests that cannot import this package.
//
// # Guarantees
//
//   - Users are authorized as on a real cluster (Node, RBAC), NodeRestriction admits the requests of kubelets, and a
//     kubelet's stand-in has only the rights of a kubelet, by its client certificate.
//   - Budgets, ReplicaSets, Deployments, StatefulSets, DaemonSets, Jobs, namespaces and garbage are handled by the real
//     controllers.
//   - No process outlives the one that started it. Clusters that run at the same time share no address.
//   - The API server keeps its address and its data when it is killed and runs again.
//
// # Not guaranteed
//
// A pod is only an object: no container runs. A deleted pod ends when the node's stand-in says so, regardless of its
// grace period. The scheduler knows cordons, Ready nodes, and pods of DaemonSets, but neither resources nor taints. Nodes
// do not become NotReady by themselves, unless a Kubelet ends. Linux only.
package kubetest
