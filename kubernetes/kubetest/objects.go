package kubetest

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// The functions below return objects for Create. A test may change them first. Pods have the label app, with the name of
// their controller, or with their own name if they have none.

// Pod returns a pod without a controller. The scheduler chooses its node if Spec.NodeName is empty.
func Pod(namespace, name string) *corev1.Pod {
	template := podTemplate(name)
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: template.Labels}, Spec: template.Spec}
}

// ReplicaSet returns a ReplicaSet.
func ReplicaSet(namespace, name string, replicas int32) *appsv1.ReplicaSet {
	return &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: appsv1.ReplicaSetSpec{Replicas: &replicas, Selector: selector(name), Template: podTemplate(name)}}
}

// StatefulSet returns a StatefulSet, whose pods are name-0, name-1 and so on, wherever they run.
func StatefulSet(namespace, name string, replicas int32) *appsv1.StatefulSet {
	return &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: appsv1.StatefulSetSpec{
		Replicas: &replicas, Selector: selector(name), Template: podTemplate(name), PodManagementPolicy: appsv1.ParallelPodManagement}}
}

// DaemonSet returns a DaemonSet.
func DaemonSet(namespace, name string) *appsv1.DaemonSet {
	return &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: appsv1.DaemonSetSpec{Selector: selector(name), Template: podTemplate(name)}}
}

// Budget returns a budget for the pods of a controller: how many of them have to be available, such as "2" or "100%".
func Budget(namespace, app, minAvailable string) *policyv1.PodDisruptionBudget {
	available := intstr.Parse(minAvailable)
	return &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: app},
		Spec: policyv1.PodDisruptionBudgetSpec{MinAvailable: &available, Selector: selector(app)}}
}

func selector(app string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}
}

func podTemplate(app string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": app}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "example.invalid/none"}}},
	}
}

// Create creates objects as the administrator. A namespace can be used when Create returns.
func (c *Cluster) Create(ctx context.Context, objects ...runtime.Object) error {
	for _, object := range objects {
		var err error
		var o metav1.CreateOptions
		switch x := object.(type) {
		case *corev1.Namespace:
			if _, err = c.Admin.Core.Namespaces().Create(ctx, x, o); err == nil {
				err = c.awaitServiceAccount(ctx, x.Name)
			}
		case *corev1.Pod:
			_, err = c.Admin.Core.Pods(x.Namespace).Create(ctx, x, o)
		case *appsv1.ReplicaSet:
			_, err = c.Admin.Apps.ReplicaSets(x.Namespace).Create(ctx, x, o)
		case *appsv1.StatefulSet:
			_, err = c.Admin.Apps.StatefulSets(x.Namespace).Create(ctx, x, o)
		case *appsv1.DaemonSet:
			_, err = c.Admin.Apps.DaemonSets(x.Namespace).Create(ctx, x, o)
		case *policyv1.PodDisruptionBudget:
			_, err = c.Admin.Policy.PodDisruptionBudgets(x.Namespace).Create(ctx, x, o)
		default:
			err = fmt.Errorf("kubetest does not know how to create a %T", object)
		}
		if err != nil {
			return fmt.Errorf("create object: %w", err)
		}
	}
	return nil
}
