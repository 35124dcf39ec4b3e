package realpart

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
)

// ModuleRoot returns the folder of locksmith's go.mod, at or above the working directory, which for a test is the
// folder of its package.
func ModuleRoot() (string, error) {
	wd, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find module root: %w", err)
	}
	module := regexp.MustCompile(`(?m)^module github\.com/locksmithd/locksmith$`)
	for dir := wd; ; dir = filepath.Dir(dir) {
		data, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", fmt.Errorf("find module root: %w", err)
		}
		if module.Match(data) {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("find module root: no go.mod of github.com/locksmithd/locksmith at or above %s", wd)
		}
	}
}
