package kubetest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"

	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/realpart"
)

// Programs are the paths of what a cluster runs.
type Programs struct {
	Etcd, APIServer, ControllerManager string
	// Version is that of Kubernetes, such as "v1.37.2". The API server has to report it.
	Version string
}

// FindPrograms returns the programs that make puts in bin/. The error is a *realpart.Missing if one is missing.
func FindPrograms() (Programs, error) {
	root, err := realpart.ModuleRoot()
	if err != nil {
		return Programs{}, err
	}
	p := Programs{
		APIServer:         filepath.Join(root, "bin/kube-apiserver"),
		ControllerManager: filepath.Join(root, "bin/kube-controller-manager"),
	}
	if p.Etcd, err = etcdtest.Binary(etcdtest.Newest); err != nil {
		return Programs{}, err
	}
	for _, path := range []string{p.APIServer, p.ControllerManager} {
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			return Programs{}, &realpart.Missing{Part: path, Remedy: remedy}
		} else if err != nil {
			return Programs{}, err
		}
	}
	p.Version, err = pinnedVersion(filepath.Join(root, "tools/kubernetes/go.mod"))
	return p, err
}

// remedy builds the programs.
const remedy = "make bin/kube-apiserver bin/kube-controller-manager"

// pinnedVersion returns the version of Kubernetes in a go.mod file.
func pinnedVersion(goMod string) (string, error) {
	data, err := os.ReadFile(goMod)
	if err != nil {
		return "", fmt.Errorf("read pinned version of Kubernetes: %w", err)
	}
	m := regexp.MustCompile(`(?m)^\s*k8s\.io/kubernetes (v\S+)`).FindSubmatch(data)
	if m == nil {
		return "", fmt.Errorf("read pinned version of Kubernetes: %s does not require k8s.io/kubernetes", goMod)
	}
	return string(m[1]), nil
}
